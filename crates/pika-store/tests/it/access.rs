//! Owners and credentials: what counts, until when, and what the audit log says of it.

use pika_managed_agent_contract::{Role, Scope};
use std::collections::BTreeMap;

use pika_store::{AllowEntry, NewSession, NewToken, Owner, Presented, Quotas, Store};
use sqlx::{Connection as _, Row as _};

use crate::fixtures::{PLENTY, add_owner, new_token, owner};
use crate::place::{Place, on_both, race};

on_both!(
    an_owner_is_made_once_and_stays_as_it_is,
    quotas_are_changed_and_told,
    the_allow_list_tells_who_did_what,
    a_token_counts_until_it_is_revoked_or_over,
    a_tokens_use_is_noted_to_the_minute,
    nobody_revokes_anothers_token,
    a_first_operators_token_is_missed_until_there_is_one,
    a_session_counts_until_it_ends_or_its_token_does,
    a_signature_is_taken_once,
    the_audit_log_is_in_order,
);

/// What was done to whom by whom, the oldest first.
async fn audit(store: &Store) -> Vec<(String, String, String)> {
    let mut entries = store.audit_log(None, 1000).await.unwrap();
    entries.reverse();
    entries
        .into_iter()
        .map(|entry| (entry.actor, entry.action, entry.subject))
        .collect()
}

fn entry(actor: &str, action: &str, subject: &str) -> (String, String, String) {
    (actor.to_owned(), action.to_owned(), subject.to_owned())
}

async fn an_owner_is_made_once_and_stays_as_it_is(place: Place) {
    let got = race(&place, 20, async |store: Store, number| {
        let wanted = Owner {
            name: format!("name {number}"),
            ..owner("o1", PLENTY)
        };
        store.ensure_owner("server", &wanted).await.unwrap()
    })
    .await;
    assert!(got.iter().all(|one| *one == got[0]), "{got:?}");
    let store = place.open().await;
    assert_eq!(store.owner("o1").await.unwrap().unwrap(), got[0]);
    assert_eq!(store.owner("o2").await.unwrap(), None);
    assert_eq!(
        audit(&store).await,
        [entry("server", "owner_created", "o1")]
    );
}

async fn quotas_are_changed_and_told(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    let none = Quotas {
        agents_max: 0,
        ..PLENTY
    };
    assert!(store.set_quotas(9, "boss", "o1", none).await.unwrap());
    assert!(!store.set_quotas(9, "boss", "o2", none).await.unwrap());
    assert_eq!(store.owner("o1").await.unwrap().unwrap().quotas, none);
    let told = audit(&store).await;
    assert_eq!(told[1..], [entry("boss", "quotas_changed", "o1")]);
}

async fn the_allow_list_tells_who_did_what(place: Place) {
    let store = place.open().await;
    // An owner may be allowed before it is known.
    let allowed = AllowEntry {
        owner_id: "npub-ö".to_owned(),
        note: "asked \"nicely\"".to_owned(),
        added_by: "boss".to_owned(),
        added_at: 7,
    };
    assert!(!store.is_allowed("npub-ö").await.unwrap());
    assert!(store.allow(&allowed).await.unwrap());
    let again = AllowEntry {
        added_by: "other".to_owned(),
        ..allowed.clone()
    };
    assert!(!store.allow(&again).await.unwrap());
    assert!(store.is_allowed("npub-ö").await.unwrap());
    assert_eq!(store.allow_list(None, 10).await.unwrap(), [allowed]);
    assert!(store.disallow(8, "boss", "npub-ö").await.unwrap());
    assert!(!store.disallow(9, "boss", "npub-ö").await.unwrap());
    assert!(!store.is_allowed("npub-ö").await.unwrap());
    let told = [
        entry("boss", "allowed", "npub-ö"),
        entry("boss", "disallowed", "npub-ö"),
    ];
    assert_eq!(
        audit(&store).await,
        told,
        "what changed nothing is not told"
    );
}

async fn present(store: &Store, now: i64, token: &NewToken) -> Option<Presented> {
    store.present_token(now, &token.secret_hash).await.unwrap()
}

async fn a_token_counts_until_it_is_revoked_or_over(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    let lasting = new_token("o1", "t1");
    let ending = NewToken {
        expires_at: Some(100),
        scope: Scope::Read,
        ..new_token("o1", "t2")
    };
    store.add_token("boss", &lasting).await.unwrap();
    store.add_token("boss", &ending).await.unwrap();
    let presented = present(&store, 99, &ending).await.unwrap();
    assert_eq!(presented.owner, owner("o1", PLENTY));
    assert!(!presented.allowed);
    assert_eq!(
        (&*presented.token.id, presented.token.scope),
        ("t2", Scope::Read)
    );
    assert_eq!(present(&store, 100, &ending).await, None);
    for wrong in ["", "hash-of-t", "hash-of-t1 ", "HASH-OF-T1"] {
        assert_eq!(store.present_token(10, wrong).await.unwrap(), None);
    }
    assert!(present(&store, 1_000_000, &lasting).await.is_some());
    assert!(store.revoke_token(200, "boss", "t1", None).await.unwrap());
    assert_eq!(present(&store, 10, &lasting).await, None);
    assert!(
        store.revoke_token(201, "boss", "t1", None).await.unwrap(),
        "done already"
    );
    let told = audit(&store).await;
    let expected = [
        entry("boss", "token_created", "t1"),
        entry("boss", "token_created", "t2"),
        entry("boss", "token_revoked", "t1"),
    ];
    assert_eq!(told[1..], expected);

    // Nobody is told a hash again: not by lists, not by the audit log.
    let listed = store.tokens("o1", None, 10).await.unwrap();
    assert_eq!(listed[0].revoked_at, Some(200));
    let words = format!("{listed:?} {:?}", store.audit_log(None, 10).await.unwrap());
    assert!(!words.contains("hash-of"), "{words}");
    // And a token of nobody, or a hash that is there, is not made.
    store
        .add_token("boss", &new_token("nobody", "t3"))
        .await
        .unwrap_err();
    let twin = NewToken {
        id: "t4".to_owned(),
        ..lasting
    };
    store.add_token("boss", &twin).await.unwrap_err();
    assert_eq!(audit(&store).await, told);
}

async fn a_tokens_use_is_noted_to_the_minute(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    let token = new_token("o1", "t1");
    store.add_token("boss", &token).await.unwrap();
    let mut last_used = Vec::new();
    for now in [1_000, 60_999, 61_000, 30_000, 200_000] {
        let presented = present(&store, now, &token).await.unwrap();
        if presented.token.use_is_due(now) {
            let uses = BTreeMap::from([("t1".to_owned(), now), ("none".to_owned(), now)]);
            store.note_token_uses(&uses).await.unwrap();
        }
        last_used.push(store.tokens("o1", None, 1).await.unwrap()[0].last_used_at);
    }
    let expected = [1_000, 1_000, 61_000, 61_000, 200_000];
    assert_eq!(last_used, expected.map(Some));
    let earlier = BTreeMap::from([("t1".to_owned(), 1)]);
    store.note_token_uses(&earlier).await.unwrap();
    let after = store.tokens("o1", None, 1).await.unwrap();
    assert_eq!(after[0].last_used_at, Some(200_000));
}

async fn nobody_revokes_anothers_token(place: Place) {
    let store = place.open().await;
    for id in ["o1", "o2"] {
        add_owner(&store, id, PLENTY).await;
    }
    let token = new_token("o1", "t1");
    store.add_token("o1", &token).await.unwrap();
    for (id, owner) in [("t1", "o2"), ("none", "o1")] {
        assert!(!store.revoke_token(9, owner, id, Some(owner)).await.unwrap());
    }
    assert!(present(&store, 10, &token).await.is_some());
    assert!(store.tokens("o2", None, 10).await.unwrap().is_empty());
    // Many who revoke it at once do so once.
    let revoked = race(&place, 10, async |store: Store, _| {
        store
            .revoke_token(11, "o1", "t1", Some("o1"))
            .await
            .unwrap()
    });
    assert_eq!(revoked.await, [true; 10]);
    let told = audit(&store).await;
    let revoked = told
        .iter()
        .filter(|(_, action, _)| action == "token_revoked");
    assert_eq!(revoked.count(), 1, "{told:?}");
}

async fn a_first_operators_token_is_missed_until_there_is_one(place: Place) {
    let store = place.open().await;
    let operator = Owner {
        role: Role::Operator,
        ..owner("op", PLENTY)
    };
    store.ensure_owner("server", &operator).await.unwrap();
    store
        .add_token("server", &new_token("op", "t1"))
        .await
        .unwrap();
    assert!(!store.has_operator_token(10).await.unwrap());
    let first = NewToken {
        scope: Scope::Operator,
        expires_at: Some(100),
        ..new_token("op", "t2")
    };
    store.add_token("server", &first).await.unwrap();
    assert!(store.has_operator_token(99).await.unwrap());
    assert!(!store.has_operator_token(100).await.unwrap());
    store.revoke_token(50, "op", "t2", None).await.unwrap();
    assert!(!store.has_operator_token(60).await.unwrap());
}

fn session(hash: &str, token: Option<&str>) -> NewSession {
    NewSession {
        secret_hash: hash.to_owned(),
        owner_id: "o1".to_owned(),
        token_id: token.map(str::to_owned),
        scope: Scope::Write,
        csrf_token: format!("csrf of {hash}"),
        created_at: 10,
        expires_at: 1000,
    }
}

async fn a_session_counts_until_it_ends_or_its_token_does(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    store.add_token("o1", &new_token("o1", "t1")).await.unwrap();
    store.add_session(&session("s1", None)).await.unwrap();
    store.add_session(&session("s2", Some("t1"))).await.unwrap();
    let counts = async |now, hash| store.session(now, hash).await.unwrap().is_some();
    let found = store.session(999, "s1").await.unwrap().unwrap();
    assert_eq!(
        (found.owner.id, found.csrf_token),
        ("o1".to_owned(), "csrf of s1".to_owned())
    );
    assert!(!counts(1000, "s1").await && !counts(10, "none").await);

    assert!(counts(20, "s2").await);
    store.revoke_token(30, "o1", "t1", None).await.unwrap();
    assert!(!counts(31, "s2").await && counts(31, "s1").await);
    // One that was just being begun when the token was revoked counts as little.
    store.add_session(&session("s3", Some("t1"))).await.unwrap();
    assert!(!counts(32, "s3").await);

    store.end_session("s1").await.unwrap();
    store.end_session("s1").await.unwrap();
    assert!(!counts(33, "s1").await);
    let later = NewSession {
        created_at: 1000,
        expires_at: 2000,
        ..session("s4", None)
    };
    store.add_session(&later).await.unwrap();
    assert_eq!(
        place.number("SELECT COUNT(*) FROM sessions").await,
        1,
        "old ones are forgotten"
    );
}

async fn a_signature_is_taken_once(place: Place) {
    let store = place.open().await;
    let taken = race(&place, 20, async |store: Store, _| {
        store.take_signature(10, "e1", 100).await.unwrap()
    });
    let taken = taken.await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 1);
    assert!(!store.take_signature(99, "e1", 200).await.unwrap());
    assert!(store.take_signature(99, "e2", 200).await.unwrap());
    // Forgotten when their own time windows are over, by many at once.
    for number in 0..50 {
        let id = format!("old{number}");
        assert!(store.take_signature(99, &id, 100 + number).await.unwrap());
    }
    let taken = race(&place, 20, async |store: Store, number| {
        let id = format!("new{number}");
        store.take_signature(150, &id, 300).await.unwrap()
    });
    assert_eq!(taken.await, [true; 20]);
    let left = place.number("SELECT COUNT(*) FROM seen_signatures").await;
    assert_eq!(left, 21, "e2 and the new ones");
}

async fn the_audit_log_is_in_order(place: Place) {
    let store = place.open().await;
    let written = race(&place, 20, async |store: Store, number| {
        let subject = format!("s{number}");
        let at = i64::try_from(number).unwrap();
        store
            .audit(at, ("me", "did", &subject), "ä'\"")
            .await
            .unwrap();
    });
    written.await;
    let entries = store.audit_log(None, 100).await.unwrap();
    let ids: Vec<i64> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, (1..=20).rev().collect::<Vec<i64>>());
    let page = store.audit_log(Some(11), 5).await.unwrap();
    assert_eq!(page, entries[10..15]);
    // Its time and detail are what they were.
    let mut connection = place.raw().await;
    let rows = sqlx::query("SELECT at, subject, detail FROM audit")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    for row in rows {
        let (at, subject): (i64, String) = (row.get("at"), row.get("subject"));
        assert_eq!(
            (subject, row.get::<String, _>("detail")),
            (format!("s{at}"), "ä'\"".to_owned())
        );
    }
    connection.close().await.unwrap();
}

//! Events that count and events that don't, each for its own reason.

use k256::schnorr::SigningKey;
use serde_json::{Value, json};

use super::*;

const NOW: Millis = 1_700_000_000_000;
const URL: &str = "https://agents.example/v1/agents?limit=2";

fn key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).unwrap()
}

/// An event signed by the test's key.
fn signed(created_at: i64, kind: u64, tags: Value) -> Event {
    let mut event = Event {
        id: String::new(),
        pubkey: hex::encode(key().verifying_key().to_bytes()),
        created_at,
        kind,
        tags: serde_json::from_value(tags).unwrap(),
        content: String::new(),
        sig: String::new(),
    };
    let id = hash(&event);
    event.id = hex::encode(id);
    event.sig = hex::encode(key().sign_raw(&id, &[0; 32]).unwrap().to_bytes());
    event
}

fn encode(event: &Event) -> String {
    let Event {
        id,
        pubkey,
        created_at,
        kind,
        tags,
        content,
        sig,
    } = event;
    let json = json!({
        "id": id, "pubkey": pubkey, "created_at": created_at, "kind": kind, "tags": tags, "content": content, "sig": sig,
    });
    STANDARD.encode(json.to_string())
}

fn usual_tags() -> Value {
    json!([["u", URL], ["method", "GET"]])
}

fn usual() -> Event {
    signed(NOW / 1000, KIND, usual_tags())
}

fn asked(body: &[u8]) -> Signed<'_> {
    Signed {
        url: URL,
        method: "GET",
        body,
    }
}

fn outcome(event: &Event) -> Result<Proof, Refused> {
    verify(&encode(event), asked(b""), NOW)
}

#[test]
fn a_signed_request_counts() {
    let event = usual();
    let proof = outcome(&event).unwrap();
    assert_eq!(proof.pubkey, event.pubkey);
    assert_eq!(proof.event_id, event.id);
    assert_eq!(proof.forget_at, NOW + REMEMBERED);
}

/// Worked out apart from this program, with everything that is escaped and something that isn't.
#[test]
fn an_id_is_the_hash_of_the_event_as_nip_01_writes_it() {
    let event = Event {
        id: String::new(),
        pubkey: "63fe6318dc58583cfe16810f86dd09e18bfd76aabc24a0081ce2856f330504ed".to_owned(),
        created_at: 1_682_327_852,
        kind: KIND,
        tags: vec![
            vec!["u".to_owned(), "https://a.example/\"x\"\n".to_owned()],
            vec!["method".to_owned(), "GET".to_owned()],
        ],
        content: "é\\".to_owned(),
        sig: String::new(),
    };
    assert_eq!(
        hex::encode(hash(&event)),
        "5c576de6be16cd554766dbe33493aa67cc4b8cac6d0f77d58c439e287a4cc98f"
    );
}

/// Vectors 0, 1 and 5 of BIP-340, and the first with one bit of its message changed.
#[test]
fn signatures_are_those_of_bip_340() {
    let is = |key: &str, message: &str, signature: &str| {
        let message = hex::decode(message).unwrap();
        let lower = |text: &str| text.to_lowercase();
        is_signed(
            &unhex(&lower(key), "key").unwrap(),
            &message,
            &unhex(&lower(signature), "signature").unwrap(),
        )
    };
    let zeros = "0".repeat(64);
    let first = (
        "F9308A019258C31049344F85F89D5229B531C845836F99B08601F113BCE036F9",
        "E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA8215\
         25F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0",
    );
    let pi = "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89";
    assert!(is(first.0, &zeros, first.1));
    assert!(!is(first.0, &format!("{}1", "0".repeat(63)), first.1));
    assert!(is(
        "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659",
        pi,
        "6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE3341\
         8906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A"
    ));
    assert!(!is(
        "EEFDEA4CDB677750A420FEE807EACF21EB9898AE79B9768766E4FAA04A2D4A34",
        pi,
        "6CFF5C3BA86C69EA4B7376F31A9BCB4F74C1976089B2D9963DA2E5543E177769\
         69E89B4C5564D00349106B8497785DD7D1D713A8AE82B32FA79D5F7FC407D39B"
    ));
}

#[test]
fn an_event_for_another_request_does_not_count() {
    let other_url = signed(
        NOW / 1000,
        KIND,
        json!([
            ["u", "https://other.example/v1/agents?limit=2"],
            ["method", "GET"]
        ]),
    );
    assert!(matches!(outcome(&other_url), Err(Refused::Url { .. })));
    let other_method = signed(NOW / 1000, KIND, json!([["u", URL], ["method", "POST"]]));
    assert!(matches!(
        outcome(&other_method),
        Err(Refused::Method { .. })
    ));
    let no_url = signed(NOW / 1000, KIND, json!([["method", "GET"]]));
    assert_eq!(outcome(&no_url), Err(Refused::Tag("u")));
    let two = signed(
        NOW / 1000,
        KIND,
        json!([["u", URL], ["u", URL], ["method", "GET"]]),
    );
    assert_eq!(outcome(&two), Err(Refused::Tag("u")));
    assert_eq!(
        outcome(&signed(NOW / 1000, 1, usual_tags())),
        Err(Refused::Kind(1))
    );
}

#[test]
fn a_body_needs_its_hash() {
    let body = b"{}";
    let with = |payload: &str| {
        let tags = json!([["u", URL], ["method", "GET"], ["payload", payload]]);
        verify(&encode(&signed(NOW / 1000, KIND, tags)), asked(body), NOW)
    };
    assert!(with(&hex::encode(Sha256::digest(body))).is_ok());
    assert_eq!(
        with(&hex::encode(Sha256::digest(b"{ }"))),
        Err(Refused::Payload)
    );
    assert_eq!(
        verify(&encode(&usual()), asked(body), NOW),
        Err(Refused::NoPayload)
    );
}

#[test]
fn an_event_counts_for_a_minute_around_its_time() {
    for (seconds, counts) in [(-61, false), (-60, true), (60, true), (61, false)] {
        let event = signed(NOW / 1000 + seconds, KIND, usual_tags());
        assert_eq!(outcome(&event).is_ok(), counts, "{seconds}");
    }
    assert_eq!(
        outcome(&signed(i64::MIN, KIND, usual_tags())),
        Err(Refused::Time(i64::MIN.unsigned_abs()))
    );
}

#[test]
fn a_changed_event_does_not_count() {
    let mut says_more = usual();
    says_more.content = "more".to_owned();
    assert_eq!(outcome(&says_more), Err(Refused::Id));
    let mut by_another = usual();
    by_another.sig = hex::encode(key().sign_raw(&[1; 32], &[0; 32]).unwrap().to_bytes());
    assert_eq!(outcome(&by_another), Err(Refused::Signature));
    let mut upper = usual();
    upper.sig = upper.sig.to_uppercase();
    assert_eq!(outcome(&upper), Err(Refused::NotHex("sig")));
}

#[test]
fn garbage_does_not_count() {
    let verify = |text: &str| verify(text, asked(b""), NOW);
    assert_eq!(verify("no base64!"), Err(Refused::NotBase64));
    assert!(matches!(
        verify(&STANDARD.encode("[1]")),
        Err(Refused::NotAnEvent(_))
    ));
    assert_eq!(
        verify(&"A".repeat(EVENT_BYTES_MAX + 1)),
        Err(Refused::TooLong)
    );
}

//! What a daemon does only now and then, scripted: a lost race for the alias, a lost answer, a refusal.

use pika_image::{AliasChange, ImportError, ImportRequest, Silent, import};
use pikahut::fake::{FakeIncus, Fault, When};

use crate::samples::{image, is_there, target};

fn status(code: u16, message: &str) -> Fault {
    Fault::Status {
        code,
        message: message.to_owned(),
    }
}

#[tokio::test]
async fn a_lost_race_for_the_alias_is_run_again() {
    let fake = FakeIncus::start().await.unwrap();
    let client = fake.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under("race");
    let (one, two) = (
        image(directory.path(), "one"),
        image(directory.path(), "two"),
    );
    import(&client, &one, &request, &Silent).await.unwrap();
    fake.faults().inject(
        When::request("PUT", "/1.0/images/aliases/race"),
        status(412, "Precondition failed"),
    );
    let done = import(&client, &two, &request, &Silent).await.unwrap();
    assert_eq!(fake.faults().pending(), 0);
    assert_eq!(
        done.alias_change,
        AliasChange::Switched {
            from: one.fingerprint
        }
    );
    assert_eq!(target(&client, "race").await, Some(two.fingerprint));
}

#[tokio::test]
async fn a_race_that_is_always_lost_ends() {
    let fake = FakeIncus::start().await.unwrap();
    let client = fake.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under("race");
    let (one, two) = (
        image(directory.path(), "one"),
        image(directory.path(), "two"),
    );
    import(&client, &one, &request, &Silent).await.unwrap();
    fake.faults().inject(
        When::request("PUT", "/1.0/images/aliases/race").nth(0),
        status(412, "Precondition failed"),
    );
    let error = import(&client, &two, &request, &Silent).await.unwrap_err();
    assert!(
        matches!(error, ImportError::AliasContended { .. }),
        "{error:?}"
    );
    // What was uploaded for nothing is gone, and the alias is as before.
    assert!(!is_there(&client, &two.fingerprint).await);
    assert_eq!(target(&client, "race").await, Some(one.fingerprint));
}

#[tokio::test]
async fn a_refused_alias_leaves_no_image() {
    let fake = FakeIncus::start().await.unwrap();
    let client = fake.client();
    let directory = tempfile::tempdir().unwrap();
    let one = image(directory.path(), "one");
    fake.faults().inject(
        When::request("POST", "/1.0/images/aliases"),
        status(403, "not authorized"),
    );
    let error = import(&client, &one, &ImportRequest::under("no"), &Silent)
        .await
        .unwrap_err();
    assert!(matches!(error, ImportError::Server { .. }), "{error:?}");
    assert!(!is_there(&client, &one.fingerprint).await);
}

#[tokio::test]
async fn a_lost_answer_to_the_alias_counts_as_done_if_it_is_done() {
    let fake = FakeIncus::start().await.unwrap();
    let client = fake.client();
    let directory = tempfile::tempdir().unwrap();
    let one = image(directory.path(), "one");
    fake.faults().inject(
        When::request("POST", "/1.0/images/aliases"),
        Fault::LoseResponse,
    );
    let done = import(&client, &one, &ImportRequest::under("lost"), &Silent)
        .await
        .unwrap();
    assert_eq!(fake.faults().pending(), 0);
    assert_eq!(done.alias_change, AliasChange::Unchanged);
    assert_eq!(target(&client, "lost").await, Some(one.fingerprint));
}

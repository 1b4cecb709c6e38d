use std::time::Duration;

use pika_incus::{ErrorCause, ErrorKind, ExecRequest, OperationStatus, WaitError};

use crate::support::{LIMIT, Subject};

pub(crate) async fn unknown_operation(s: &Subject) {
    let id = "00000000-0000-4000-8000-000000000000"
        .parse()
        .expect("an id");
    let error = s
        .client
        .wait(&id, LIMIT)
        .await
        .expect_err("no such operation");
    assert!(matches!(error, WaitError::Gone { .. }), "{error}");
    assert!(
        error.outcome_unknown(),
        "how it ended can only be seen on its objects"
    );
    assert_eq!(
        s.client
            .operation(&id)
            .await
            .expect_err("no such operation")
            .kind(),
        ErrorKind::NotFound
    );
}

pub(crate) async fn wait_that_times_out(s: &Subject) {
    let name = s.instance("a", true).await;
    let mut session = s
        .client
        .exec(&name, &ExecRequest::new(["sleep", "1000"]))
        .await
        .expect("exec");
    let id = session.operation().clone();
    let error = s
        .client
        .wait(&id, Duration::from_secs(1))
        .await
        .expect_err("it runs longer");
    let WaitError::TimedOut {
        last: Some(last), ..
    } = &error
    else {
        panic!("a time-out with the operation as it stands was expected: {error}");
    };
    assert_eq!(
        (last.status, last.err.as_str()),
        (OperationStatus::Running, "")
    );
    assert!(
        s.client
            .operations()
            .await
            .expect("list")
            .iter()
            .any(|one| one.id == id)
    );
    session.control.signal(9).await.expect("signal");
    session.wait(LIMIT).await.expect("the command ends");
    s.remove_instance(&name).await;
}

pub(crate) async fn invalid_names_send_nothing(s: &Subject) {
    for name in ["", "..", "a/b", "a\nb"] {
        let error = s
            .client
            .instance(name)
            .await
            .expect_err("no such name can be");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
        assert!(matches!(error.cause(), ErrorCause::Input(_)), "{error}");
        assert!(!error.outcome_unknown());
    }
}

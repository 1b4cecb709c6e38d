//! The recording that the fake is held to, played on a real daemon: it must still be true.

use pikahut::fake::recording::{Names, play};
use pikahut::stack::TestIncus;

#[tokio::test]
async fn a_real_daemon_still_answers_as_recorded() {
    // Alone, since the tape lists everything, and looks at operations of the whole project.
    let incus = TestIncus::private("tape").await;
    let alias = incus.tiny_image().await;
    let image = incus
        .client()
        .alias(&alias)
        .await
        .expect("the daemon answers")
        .expect("the image was just imported")
        .value
        .target;
    // Short: a bridge is named after it.
    let name = format!("tp{:04x}", std::process::id() & 0xffff);
    let names = Names { name, image, alias };
    let differences = play(&incus.socket(), &names).await.expect("the tape plays");
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

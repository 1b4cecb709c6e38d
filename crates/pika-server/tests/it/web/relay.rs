//! What stands for a guest's relay: a connection to its gateway, carried by a command.

use std::net::{IpAddr, SocketAddr};

use pika_cloud::relay::{COMMAND, CONNECTED, PROGRAM};
use pikahut::fake::ExecCall;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::guest::{PORT, listener};
use super::{By, agent_at, agent_by};
use crate::support::Stage;

/// Has the guests of a stage relay to a gateway.
pub(super) fn set_up(stage: &Stage, gateway: IpAddr) {
    let gateway = SocketAddr::new(gateway, PORT);
    stage.fake.on_exec(&[PROGRAM, COMMAND], move |call| {
        Box::pin(relay(call, gateway))
    });
}

async fn relay(mut call: ExecCall, gateway: SocketAddr) -> Option<i32> {
    let mut service = match TcpStream::connect(gateway).await {
        Ok(service) => service,
        Err(error) => {
            call.stderr(format!("{PROGRAM}: {error}\n")).await;
            return Some(2);
        }
    };
    call.stderr(CONNECTED).await;
    let (mut from, mut to) = service.split();
    let (mut piece, mut input_ended) = (vec![0; 64 * 1024], false);
    loop {
        tokio::select! {
            bytes = call.stdin(), if !input_ended => match bytes {
                Some(bytes) => to.write_all(&bytes).await.ok()?,
                None => {
                    input_ended = true;
                    to.shutdown().await.ok()?;
                }
            },
            read = from.read(&mut piece) => match read {
                Ok(0) | Err(_) => return Some(0),
                Ok(read) => call.stdout(piece[..read].to_vec()).await,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_loopback_alone_is_reached_until_it_is_gone() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, _, guest) = agent_by(By::Relay, &stage, &running).await;
    for asked in 1..=2 {
        assert_eq!(
            alice.get("/v1/agents/me/web/").await.0,
            StatusCode::IM_A_TEAPOT
        );
        assert_eq!(guest.requests(), asked);
    }
    drop(guest);
    let (status, none) = alice.get("/v1/agents/me/web/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{none}");
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_without_a_relay_is_told_of_by_its_address() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (taken, address) = listener().await;
    drop(taken);
    let (alice, _) = agent_at(&stage, &running, address).await;
    let (status, refused) = alice.get("/v1/agents/me/web/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains(&address.to_string()), "{message}");
    running.server.shut_down().await;
}

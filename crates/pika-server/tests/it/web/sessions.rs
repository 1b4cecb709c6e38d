//! Agents' pages in a browser that has a session of the server's.

use reqwest::{Method, StatusCode};

use super::agent;
use crate::support::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_page_can_not_act_as_its_visitor_and_sets_nothing_of_the_servers() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, id, _guest) = agent(&stage, &running).await;
    let policy = reqwest::redirect::Policy::none();
    let browser = reqwest::Client::builder().redirect(policy).build().unwrap();
    let signed_in = browser
        .post(alice.url("/sign-in"))
        .form(&[("token", alice.token()), ("next", "/agents")])
        .send()
        .await
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split_once(';').unwrap().0;
    let request = |method: Method, path: &str| {
        let url = alice.url(&format!("/v1/agents/me/web{path}"));
        browser.request(method, url).header("cookie", cookie)
    };

    let answer = request(Method::GET, "").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(answer.headers()["location"], "/v1/agents/me/web/");
    let answer = request(Method::GET, "?a=b").send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/v1/agents/me/web/?a=b");
    let answer = request(Method::GET, "/login").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(
        answer.headers()["location"],
        *format!("/v1/agents/{id}/web/home?a=b")
    );

    let answer = request(Method::GET, "/evil").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let all = |name: &str| -> Vec<&str> {
        let values = answer.headers().get_all(name).into_iter();
        values.map(|value| value.to_str().unwrap()).collect()
    };
    assert_eq!(
        all("content-security-policy"),
        ["default-src *", "sandbox allow-scripts allow-forms"]
    );
    assert_eq!(
        all("set-cookie"),
        [format!("theme=dark; Path=/v1/agents/{id}/web/; HttpOnly")]
    );
    assert_eq!(all("cache-control"), ["private, max-age=60"]);
    assert_eq!(all("x-content-type-options"), ["nosniff"]);
    assert_ne!(all("x-request-id"), ["evil"]);
    for never in [
        "strict-transport-security",
        "clear-site-data",
        "service-worker-allowed",
        "access-control-allow-origin",
        "x-accel-redirect",
        "x-private",
    ] {
        assert!(all(never).is_empty(), "{never}: {:?}", all(never));
    }
    // The session is as good as before, and the guest was never shown it.
    let told = request(Method::GET, "/what").send().await.unwrap();
    let told = told.text().await.unwrap();
    let secret = cookie.split_once('=').unwrap().1;
    assert!(told.contains("/what") && !told.contains(secret), "{told}");
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_session_another_page_changes_nothing_and_opens_no_websocket() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, _, guest) = agent(&stage, &running).await;
    let policy = reqwest::redirect::Policy::none();
    let browser = reqwest::Client::builder().redirect(policy).build().unwrap();
    let signed_in = browser
        .post(alice.url("/sign-in"))
        .form(&[("token", alice.token())])
        .send()
        .await
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split_once(';').unwrap().0;
    let url = alice.url("/v1/agents/me/web/x");
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = browser.request(method.clone(), &url);
        let answer = request.header("cookie", cookie).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method}");
    }
    let upgrade = |cookie: bool, origin: &str| {
        let request = browser
            .get(&url)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("origin", origin);
        match cookie {
            true => request.header("cookie", self::cookie_of(&signed_in)),
            false => request.bearer_auth(alice.token()),
        }
    };
    for foreign in ["null", "https://evil.example"] {
        let answer = upgrade(true, foreign).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{foreign}");
    }
    assert_eq!(guest.requests(), 0);
    // A page of the server's own may, and so may whoever has a token and says where it is.
    let own = alice.url("");
    for (cookie, origin) in [(true, &*own), (false, "https://evil.example")] {
        let answer = upgrade(cookie, origin).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT, "{origin}");
    }
    running.server.shut_down().await;
}

fn cookie_of(answer: &reqwest::Response) -> &str {
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    cookie.split_once(';').unwrap().0
}

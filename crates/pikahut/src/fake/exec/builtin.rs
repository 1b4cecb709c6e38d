//! Commands that the fake knows by itself: just enough of a shell for conformance tests, without any process.

use std::time::Duration;

use super::ExecCall;

/// Runs a built-in command; `None` where there is no such command.
pub(super) async fn run(mut call: ExecCall) -> Option<i32> {
    let command = call.command.clone();
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sh" | "bash" | "/bin/sh" | "/bin/bash", "-c", script, ..] => {
            script_of(&mut call, script).await
        }
        words => simple(&mut call, words, false).await.map(|end| match end {
            End::Status(status) | End::Exit(status) => status,
        }),
    }
}

enum End {
    Status(i32),
    Exit(i32),
}

/// Simple commands joined by `;` or newlines.
async fn script_of(call: &mut ExecCall, script: &str) -> Option<i32> {
    let mut last = 0;
    for line in script.split([';', '\n']).map(str::trim) {
        if line.is_empty() {
            continue;
        }
        let (line, to_stderr) = match line.strip_suffix(">&2") {
            Some(line) => (line.trim_end(), true),
            None => (line, false),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match simple(call, &words, to_stderr).await {
            Some(End::Status(status)) => last = status,
            Some(End::Exit(status)) => return Some(status),
            None => {
                let name = words.first().copied().unwrap_or_default();
                call.stderr(format!("sh: 1: {name}: not found\n")).await;
                last = 127;
            }
        }
    }
    Some(last)
}

async fn simple(call: &mut ExecCall, words: &[&str], to_stderr: bool) -> Option<End> {
    match words {
        ["true" | ":"] => Some(End::Status(0)),
        ["false"] => Some(End::Status(1)),
        ["exit", status] => Some(End::Exit(status.parse().unwrap_or(2))),
        ["kill", "-KILL" | "-9", "$$"] => Some(End::Exit(137)),
        ["kill", "-TERM" | "-15", "$$"] => Some(End::Exit(143)),
        ["echo", rest @ ..] => {
            let text = format!("{}\n", rest.join(" ").replace(['"', '\''], ""));
            output(call, text, to_stderr).await;
            Some(End::Status(0))
        }
        ["printenv", name] => {
            let value = call.environment.get(*name).cloned();
            let status = i32::from(value.is_none());
            if let Some(value) = value {
                output(call, format!("{value}\n"), to_stderr).await;
            }
            Some(End::Status(status))
        }
        ["cat"] => {
            while let Some(bytes) = call.stdin().await {
                call.stdout(bytes).await;
            }
            Some(End::Status(0))
        }
        ["sleep", seconds] => Some(sleep(call, seconds.parse().unwrap_or(0.0)).await),
        _ => None,
    }
}

async fn output(call: &ExecCall, text: String, to_stderr: bool) {
    if to_stderr {
        call.stderr(text).await;
    } else {
        call.stdout(text).await;
    }
}

/// Sleeps until a signal comes.
async fn sleep(call: &mut ExecCall, seconds: f64) -> End {
    let end = tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 1e6)));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return End::Status(0),
            Some(message) = call.control.recv() => {
                if message["command"] == "signal" {
                    let signal = message["signal"].as_i64().unwrap_or(15);
                    return End::Exit(128 + i32::try_from(signal).unwrap_or(15));
                }
            }
        }
    }
}

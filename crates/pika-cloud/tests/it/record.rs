//! The runner's last words.

use pika_cloud::record::{
    AttachContinue, CollectSummary, RefusedFile, decode_collect_summary, decode_continue,
    decode_result_file, decode_terminal_record, encode_collect_summary, encode_continue,
    encode_result_file, encode_terminal_record,
};
use pika_cloud::{RunEnd, TerminalRecord};

fn record(end: RunEnd) -> TerminalRecord {
    TerminalRecord {
        schema_version: 1,
        nonce: "n-1".to_owned(),
        boot_id: "5f8d7a2e-0000-4000-8000-000000000000".to_owned(),
        log_bytes: 42,
        end,
        self_reported: false,
    }
}

fn all_ends() -> [RunEnd; 5] {
    [
        RunEnd::Exited { code: 7 },
        RunEnd::Signaled { signal: 9 },
        RunEnd::Deadline,
        RunEnd::Oom,
        RunEnd::RunnerFailed {
            reason: "no bash".to_owned(),
        },
    ]
}

#[test]
fn every_end_has_this_line() {
    let lines: String = all_ends()
        .map(|end| String::from_utf8(encode_terminal_record(&record(end)).unwrap()).unwrap())
        .concat();
    insta::assert_snapshot!(lines);
}

#[test]
fn a_record_is_read_only_as_the_last_whole_line() {
    for end in all_ends() {
        let record = record(end);
        let line = encode_terminal_record(&record).unwrap();
        let after_talk = [b"talk\n\xff\xfe\n".as_slice(), &line].concat();
        assert_eq!(
            decode_terminal_record(&after_talk).unwrap(),
            Some(record.clone())
        );
        let followed = [&line[..], b"more\n"].concat();
        assert_eq!(decode_terminal_record(&followed).unwrap(), None);
        let glued = [b"talk".as_slice(), &line].concat();
        assert_eq!(decode_terminal_record(&glued).unwrap(), None);
        for cut in 0..line.len() {
            let outcome = decode_terminal_record(&line[..cut]);
            assert!(
                !matches!(outcome, Ok(Some(_))),
                "a record of {cut} bytes was taken"
            );
        }
    }
    assert_eq!(decode_terminal_record(b"").unwrap(), None);
    assert_eq!(decode_terminal_record(b"\n\n").unwrap(), None);
}

#[test]
fn a_record_that_cant_be_right_is_refused() {
    let good = serde_json::to_value(record(RunEnd::Deadline)).unwrap();
    let refusal = |pointer: &str, value: serde_json::Value| {
        let mut document = good.clone();
        document[pointer] = value;
        let line = format!("PIKA-TERMINAL-RECORD {document}\n");
        let error = decode_terminal_record(line.as_bytes()).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    };
    use serde_json::json;
    let texts = [
        refusal("schema_version", json!(2)),
        refusal("nonce", json!("")),
        refusal("nonce", json!("a\u{1b}[31m")),
        refusal("boot_id", json!("a b")),
        refusal("log_bytes", json!(-1)),
        refusal("end", json!("passed")),
        refusal("end", json!({"exited": {"code": 256}})),
        refusal("end", json!({"exited": {"code": 0, "also": 1}})),
        refusal("end", json!({"signaled": {"signal": 0}})),
        refusal(
            "end",
            json!({"runner_failed": {"reason": "x".repeat(4097)}}),
        ),
        refusal("extra", json!(1)),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn an_endless_line_is_refused() {
    let line = [b"PIKA-TERMINAL-RECORD ".as_slice(), &vec![b' '; 64 * 1024]].concat();
    let error = decode_terminal_record(&line).unwrap_err();
    insta::assert_snapshot!(error, @"the runner's last line has 65557 bytes, more than the limit of 65536");
}

#[test]
fn the_other_words_go_both_ways_and_are_not_mistaken() {
    let word = AttachContinue { offset: 7 };
    let line = encode_continue(&word).unwrap();
    assert_eq!(line, b"PIKA-CONTINUE {\"offset\":7}\n");
    assert_eq!(decode_continue(&line).unwrap(), Some(word));
    assert_eq!(decode_terminal_record(&line).unwrap(), None);
    let refused = RefusedFile {
        name: "a\\xff".to_owned(),
        why: "a FIFO".to_owned(),
    };
    let summary = CollectSummary {
        files: 1,
        bytes: 2,
        refused: vec![refused],
        truncated: false,
    };
    let line = encode_collect_summary(&summary).unwrap();
    assert_eq!(decode_collect_summary(&line).unwrap(), Some(summary));
    assert_eq!(decode_continue(&line).unwrap(), None);
}

#[test]
fn a_result_file_comes_only_right_before_a_whole_record() {
    let text = "{\n \"status\": \"completed\"\n}\n";
    let line = encode_result_file(text).unwrap();
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let end = encode_terminal_record(&record(RunEnd::Exited { code: 0 })).unwrap();
    let words = [b"noise\n".as_slice(), &line, &end].concat();
    assert_eq!(decode_result_file(&words).as_deref(), Some(text));
    assert!(decode_terminal_record(&words).unwrap().is_some());
    assert_eq!(decode_result_file(&end), None);
    assert_eq!(decode_result_file(&line), None);
    assert_eq!(decode_result_file(&words[..words.len() - 1]), None);
    let parted = [line.as_slice(), b"noise\n", &end].concat();
    assert_eq!(decode_result_file(&parted), None);
    let torn = [b"PIKA-RESULT \"half\n".as_slice(), &end].concat();
    assert_eq!(decode_result_file(&torn), None);
}

//! What must hold for any bytes that a guest can send.
//!
//! Owns one function for each decoder: no panic, and what was accepted is written and read back the
//! same. The fuzz targets call these, and so does an ordinary test of pika-cloud over the corpus.

use pika_cloud::GuestRequest;
use pika_cloud::lifecycle::{
    decode_events, decode_result, decode_status, encode_event, encode_result, encode_status,
};
use pika_cloud::record::{
    decode_collect_summary, decode_continue, decode_result_file, decode_terminal_record,
    encode_terminal_record,
};

/// Checks one input and says whether it was accepted.
pub type Target = fn(&[u8]) -> bool;

/// Every target with the name of its corpus.
pub const ALL: [(&str, Target); 5] = [
    ("status", status),
    ("result", result),
    ("events", events),
    ("guest_request", guest_request),
    ("terminal_record", terminal_record),
];

/// `status.json`.
pub fn status(bytes: &[u8]) -> bool {
    let Ok(status) = decode_status("status.json", bytes) else {
        return false;
    };
    let written = encode_status(&status).expect("an accepted status can be written");
    let again = decode_status("status.json", &written).expect("a written status can be read");
    assert_eq!(again, status);
    true
}

/// `result.json`.
pub fn result(bytes: &[u8]) -> bool {
    let Ok(result) = decode_result("result.json", bytes) else {
        return false;
    };
    let written = encode_result(&result).expect("an accepted result can be written");
    let again = decode_result("result.json", &written).expect("a written result can be read");
    assert_eq!(again, result);
    true
}

/// `events.jsonl`, whole or torn.
pub fn events(bytes: &[u8]) -> bool {
    let Ok(decoded) = decode_events("events.jsonl", bytes) else {
        return false;
    };
    assert_eq!(decoded.consumed_bytes + decoded.torn_bytes, bytes.len());
    let mut written = Vec::new();
    for event in &decoded.events {
        written.extend(encode_event(event).expect("an accepted event can be written"));
    }
    let again = decode_events("events.jsonl", &written).expect("written events can be read");
    assert_eq!(again.events, decoded.events);
    !decoded.events.is_empty()
}

/// `guest-request.json`.
pub fn guest_request(bytes: &[u8]) -> bool {
    let Ok(request) = GuestRequest::decode(bytes) else {
        return false;
    };
    // Escapes can make the written form longer than the limit; then it is refused, not cut.
    if let Ok(written) = request.encode() {
        assert_eq!(
            GuestRequest::decode(&written).expect("a written request can be read"),
            request
        );
    }
    true
}

/// The last lines of the runner's stderr.
pub fn terminal_record(bytes: &[u8]) -> bool {
    let with_result = decode_result_file(bytes).is_some();
    let others = [
        matches!(decode_continue(bytes), Ok(Some(_))),
        matches!(decode_collect_summary(bytes), Ok(Some(_))),
    ];
    let Ok(Some(record)) = decode_terminal_record(bytes) else {
        assert!(!others.contains(&true) || !with_result, "two last lines");
        return others.contains(&true);
    };
    assert!(!others.contains(&true), "one line was taken for two things");
    let written = encode_terminal_record(&record).expect("an accepted record can be written");
    let again = decode_terminal_record(&written).expect("a written record can be read");
    assert_eq!(again, Some(record));
    true
}

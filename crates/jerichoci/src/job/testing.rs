//! Jobs for tests, made as the lanes file makes them.

use super::{JobContext, JobSpec};
use crate::lanes::{LanesFile, Section};
use crate::operator::OperatorConfig;

/// Lanes `a`, `b`, ... each with the keys given.
pub(crate) fn jobs(keys: &[&str]) -> Vec<JobSpec> {
    let mut source = "version = 1\n".to_owned();
    for (index, keys) in keys.iter().enumerate() {
        let id = char::from(b'a' + u8::try_from(index).expect("few lanes"));
        source.push_str(&format!(
            "[[branch.lanes]]\nid = \"{id}\"\ncommand = [\"true\"]\n{keys}\n"
        ));
    }
    let file = LanesFile::parse("f", &source).expect("parses");
    let operator = OperatorConfig::default();
    let context = JobContext {
        operator: &operator,
        owner: "o",
        store_tag: "t",
        role_override: None,
    };
    let job = |lane| JobSpec::new(Section::Branch, lane, &context).expect("a job");
    file.branch.iter().map(job).collect()
}

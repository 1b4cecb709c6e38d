//! From the raw lanes file to checked lanes: every rule that the shape alone doesn't carry.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use pika_cloud::InstanceType;
use pika_incus_guest_role::IncusGuestRole;
use toml::Spanned;

use super::matrix;
use super::payloads::LanePayloads;
use super::raw::{KNOWN_KEYS, RawFile, RawLane};
use super::{
    LANE_ID_BYTES_MAX, LANE_TIMEOUT_MAX, LANES_FILE_BYTES_MAX, LANES_MAX, Lane, LaneRunner,
    LanesError, LanesFile, Section, TimeOfDay, parse_duration,
};
use crate::excerpt::Problem;
use crate::select::compile_glob;

/// Most times that a lane may be tried again.
const RETRY_MAX: u32 = 10;

pub(super) fn parse(name: &str, source: &str) -> Result<LanesFile, LanesError> {
    let refused = |problem| LanesError {
        name: name.to_owned(),
        problems: vec![problem],
    };
    if source.len() > LANES_FILE_BYTES_MAX {
        let message = format!(
            "the file has {} bytes, more than the {LANES_FILE_BYTES_MAX} allowed",
            source.len()
        );
        return Err(refused(Problem::at(source, 0..0, message)));
    }
    let raw: RawFile = toml::from_str(source)
        .map_err(|error| refused(Problem::from_toml(source, &error, KNOWN_KEYS)))?;
    let mut checker = Checker {
        source,
        problems: Vec::new(),
    };
    let file = checker.file(raw);
    if checker.problems.is_empty() {
        return Ok(file);
    }
    let mut problems = checker.problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(LanesError {
        name: name.to_owned(),
        problems,
    })
}

pub(super) struct Checker<'a> {
    source: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    pub(super) fn refuse(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem::at(self.source, span, message));
    }

    fn file(&mut self, raw: RawFile) -> LanesFile {
        if *raw.version.get_ref() != 1 {
            let message = format!(
                "version {} is not known; this engine reads version 1",
                raw.version.get_ref()
            );
            self.refuse(raw.version.span(), message);
        }
        let nightly_schedule_utc = raw
            .nightly_schedule_utc
            .and_then(|text| self.time_of_day(&text));
        let branch = self.section(Section::Branch, raw.branch.lanes);
        let nightly = self.section(Section::Nightly, raw.nightly.lanes);
        LanesFile {
            nightly_schedule_utc,
            branch,
            nightly,
        }
    }

    fn time_of_day(&mut self, text: &Spanned<String>) -> Option<TimeOfDay> {
        let parsed = text.get_ref().split_once(':').and_then(|(hour, minute)| {
            let two_digits =
                |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            if !two_digits(hour) || !two_digits(minute) {
                return None;
            }
            let time = TimeOfDay {
                hour: hour.parse().ok()?,
                minute: minute.parse().ok()?,
            };
            (time.hour < 24 && time.minute < 60).then_some(time)
        });
        if parsed.is_none() {
            self.refuse(
                text.span(),
                "not a time of day; write hours and minutes in UTC, for example \"08:00\"",
            );
        }
        parsed
    }

    fn section(&mut self, section: Section, raw: Vec<RawLane>) -> Vec<Lane> {
        if let Some(lane) = raw.get(LANES_MAX) {
            self.refuse(
                lane.id.span(),
                format!("more than {LANES_MAX} {} lanes", section.as_str()),
            );
            return Vec::new();
        }
        let spans: Vec<(Range<usize>, Vec<Range<usize>>)> = raw
            .iter()
            .map(|lane| {
                (
                    lane.id.span(),
                    lane.needs.iter().map(Spanned::span).collect(),
                )
            })
            .collect();
        let payloads: Vec<LanePayloads> = raw.iter().map(LanePayloads::of).collect();
        let mut lanes: Vec<Lane> = raw.into_iter().map(|lane| self.lane(lane)).collect();
        let mut seen = BTreeSet::new();
        for (lane, (id_span, _)) in lanes.iter().zip(&spans) {
            if !seen.insert(lane.id.to_ascii_lowercase()) {
                let message = format!(
                    "a second {} lane with the id `{}`",
                    section.as_str(),
                    lane.id
                );
                self.refuse(id_span.clone(), message);
            }
        }
        self.link_payloads(section, &mut lanes, &payloads);
        self.needs(section, &lanes, &spans);
        self.variants(section, &lanes, &spans);
        if self.problems.is_empty() {
            matrix::expand(lanes)
        } else {
            lanes
        }
    }

    /// Refuses what would become too many lanes, or too many needs of lanes, before anything is made of it.
    fn variants(
        &mut self,
        section: Section,
        lanes: &[Lane],
        spans: &[(Range<usize>, Vec<Range<usize>>)],
    ) {
        let counts: BTreeMap<&str, usize> = (lanes.iter())
            .map(|lane| (lane.id.as_str(), matrix::count(&lane.matrix)))
            .collect();
        let count = |id: &str| counts.get(id).copied().unwrap_or(1);
        let (mut all, mut needs) = (0usize, 0usize);
        for (lane, (id_span, _)) in lanes.iter().zip(spans) {
            let own = count(&lane.id);
            let of_needs: usize = lane.needs.iter().map(|need| count(need)).sum();
            all = all.saturating_add(own);
            needs = needs.saturating_add(own.saturating_mul(of_needs));
            let section = section.as_str();
            let too_many = match (all > matrix::ALL_MAX, needs > matrix::NEEDS_MAX) {
                (true, _) => format!(
                    "with its variants there are more than {} {section} lanes",
                    matrix::ALL_MAX
                ),
                (_, true) => format!(
                    "with all variants, the {section} lanes up to this one need more than {} others together",
                    matrix::NEEDS_MAX
                ),
                _ => continue,
            };
            return self.refuse(id_span.clone(), too_many);
        }
    }

    fn needs(
        &mut self,
        section: Section,
        lanes: &[Lane],
        spans: &[(Range<usize>, Vec<Range<usize>>)],
    ) {
        let known: BTreeMap<&str, &Lane> =
            lanes.iter().map(|lane| (lane.id.as_str(), lane)).collect();
        let mut dangling = false;
        for (lane, (_, needs_spans)) in lanes.iter().zip(spans) {
            for (need, span) in lane.needs.iter().zip(needs_spans) {
                if !known.contains_key(need.as_str()) {
                    dangling = true;
                    self.refuse(
                        span.clone(),
                        format!("no {} lane has the id `{need}`", section.as_str()),
                    );
                }
            }
        }
        if dangling {
            return;
        }
        for (lane, (id_span, _)) in lanes.iter().zip(spans) {
            if reaches(&known, &lane.id, &lane.id) {
                let through = match lanes.iter().any(|lane| !lane.inputs.is_empty()) {
                    true => "`needs` and `inputs`",
                    false => "`needs`",
                };
                self.refuse(
                    id_span.clone(),
                    format!("lane `{}` needs itself, through {through}", lane.id),
                );
            }
        }
    }

    fn lane(&mut self, raw: RawLane) -> Lane {
        self.id(&raw.id);
        self.command(&raw.command);
        self.globs(raw.paths.as_deref().unwrap_or_default());
        self.globs(&raw.exclude);
        self.globs(&raw.artifacts);
        self.globs(&raw.reports);
        for names in [&raw.caches, &raw.mounts] {
            self.names(names);
        }
        self.env(&raw.env);
        if raw.paths.as_ref().is_some_and(Vec::is_empty) {
            let message =
                "an empty `paths` never matches; leave the key out for a lane that always runs";
            self.refuse(raw.id.span(), message);
        }
        self.matrix(&raw);
        if let Some(retry) = raw
            .retry
            .as_ref()
            .filter(|retry| *retry.get_ref() > RETRY_MAX)
        {
            self.refuse(retry.span(), format!("at most {RETRY_MAX} retries"));
        }
        if let Some(resources) = &raw.resources {
            let sizes = resources.get_ref();
            if sizes.vcpu_count == Some(0)
                || sizes.memory_mib == Some(0)
                || sizes.root_disk_gib == Some(0)
            {
                self.refuse(
                    resources.span(),
                    "a size of 0 gives an instance that can't run",
                );
            }
        }
        self.finish(raw)
    }

    /// What is parsed key by key, put together.
    fn finish(&mut self, raw: RawLane) -> Lane {
        let guest_role = raw.guest_role.as_ref().and_then(|text| {
            let parsed = text.get_ref().parse::<IncusGuestRole>();
            parsed
                .map_err(|error| self.refuse(text.span(), error.to_string()))
                .ok()
        });
        let timeout = raw.timeout.as_ref().and_then(|text| {
            let parsed = parse_duration(text.get_ref(), LANE_TIMEOUT_MAX);
            parsed
                .map_err(|error| self.refuse(text.span(), error.to_string()))
                .ok()
        });
        let id = raw.id.into_inner();
        Lane {
            title: self.text("title", raw.title).unwrap_or_else(|| id.clone()),
            entrypoint: raw.entrypoint,
            command: into_inner(raw.command.into_inner()),
            paths: raw.paths.map(into_inner),
            exclude: into_inner(raw.exclude),
            concurrency_group: self.text("concurrency_group", raw.concurrency_group),
            guest_role,
            image: self.text("image", raw.image),
            instance_type: raw.instance_type.and_then(|text| self.instance_type(&text)),
            resources: raw.resources.map(Spanned::into_inner).unwrap_or_default(),
            timeout,
            env: raw
                .env
                .into_iter()
                .map(|(name, value)| (name.into_inner(), value.into_inner()))
                .collect(),
            run_as_root: raw.run_as_root,
            needs: into_inner(raw.needs),
            required: raw.required.unwrap_or(true),
            retry: raw.retry.map_or(0, Spanned::into_inner),
            artifacts: into_inner(raw.artifacts),
            reports: into_inner(raw.reports),
            caches: into_inner(raw.caches),
            workspace: raw.workspace,
            outputs: self.payloads(&raw.outputs),
            inputs: self.payloads(&raw.inputs),
            mounts: into_inner(raw.mounts),
            runner: raw
                .runner
                .map(|text| self.runner(&text))
                .unwrap_or_default(),
            matrix: raw
                .matrix
                .into_iter()
                .map(|(name, values)| (name.into_inner(), values.into_inner()))
                .collect(),
            variant: None,
            keep_going: raw.keep_going.unwrap_or(true),
            id,
        }
    }

    fn id(&mut self, id: &Spanned<String>) {
        let text = id.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let starts_well = text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric);
        if !starts_well || !text.bytes().all(allowed) || text.len() > LANE_ID_BYTES_MAX {
            let message = format!(
                "a lane id has at most {LANE_ID_BYTES_MAX} letters, digits, `-`, `_` and `.`, and starts with a letter or a digit"
            );
            self.refuse(id.span(), message);
        }
    }

    fn command(&mut self, command: &Spanned<Vec<Spanned<String>>>) {
        match command.get_ref().first() {
            None => self.refuse(
                command.span(),
                "an empty command; give a program and its arguments",
            ),
            Some(program) if program.get_ref().trim().is_empty() => {
                self.refuse(program.span(), "the program of the command is empty");
            }
            Some(_) => {}
        }
        for argument in command.get_ref() {
            if argument.get_ref().contains('\0') {
                self.refuse(
                    argument.span(),
                    "a NUL character can't be part of a command",
                );
            }
        }
    }

    fn globs(&mut self, globs: &[Spanned<String>]) {
        for glob in globs {
            let text = glob.get_ref();
            if text.starts_with('/') || text.split('/').any(|part| part == ".." || part == ".") {
                self.refuse(
                    glob.span(),
                    "a path rule is relative and has no `.` or `..` in it",
                );
            } else if text.trim().is_empty() {
                self.refuse(glob.span(), "an empty path rule never matches");
            } else if let Err(error) = compile_glob(text) {
                self.refuse(glob.span(), format!("not a glob: {}", error.kind()));
            }
        }
    }

    fn names(&mut self, names: &[Spanned<String>]) {
        let mut seen = BTreeSet::new();
        for name in names {
            let text = name.get_ref();
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if text.contains('/') {
                let message = "a lanes file can't name a path of the host; use a name that the operator's configuration defines";
                self.refuse(name.span(), message);
            } else if text.is_empty() || !text.bytes().all(allowed) {
                self.refuse(name.span(), "a name has letters, digits, `-` and `_`");
            } else if !seen.insert(text) {
                self.refuse(name.span(), format!("`{text}` is listed twice"));
            }
        }
    }

    fn env(&mut self, env: &BTreeMap<Spanned<String>, Spanned<String>>) {
        for (name, value) in env {
            let text = name.get_ref();
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if text.is_empty() || text.as_bytes()[0].is_ascii_digit() || !text.bytes().all(allowed)
            {
                let message = "an environment variable has letters, digits and `_`, and doesn't start with a digit";
                self.refuse(name.span(), message);
            }
            if value.get_ref().contains('\0') {
                self.refuse(
                    value.span(),
                    "a NUL character can't be part of the environment",
                );
            }
        }
    }

    fn text(&mut self, key: &str, text: Option<Spanned<String>>) -> Option<String> {
        let text = text?;
        if text.get_ref().trim().is_empty() || text.get_ref().contains(char::is_control) {
            self.refuse(
                text.span(),
                format!("`{key}` is empty or has control characters; leave the key out for none"),
            );
        }
        Some(text.into_inner())
    }

    fn instance_type(&mut self, text: &Spanned<String>) -> Option<InstanceType> {
        match text.get_ref().as_str() {
            "virtual_machine" => Some(InstanceType::VirtualMachine),
            "container" => Some(InstanceType::Container),
            "auto" => Some(InstanceType::Auto),
            _ => {
                self.refuse(
                    text.span(),
                    "not an instance type; one of `virtual_machine`, `container`, `auto`",
                );
                None
            }
        }
    }

    fn runner(&mut self, text: &Spanned<String>) -> LaneRunner {
        match text.get_ref().split_once(':') {
            None if text.get_ref() == "incus" => LaneRunner::Incus,
            Some(("ssh", name)) if !name.is_empty() && !name.contains(['/', '@', ':', ' ']) => {
                LaneRunner::Ssh(name.to_owned())
            }
            _ => {
                let message = "not a runner; `incus`, or `ssh:NAME` for a remote runner that the operator defines";
                self.refuse(text.span(), message);
                LaneRunner::Incus
            }
        }
    }
}

fn into_inner(list: Vec<Spanned<String>>) -> Vec<String> {
    list.into_iter().map(Spanned::into_inner).collect()
}

/// Whether following `needs` from `from` comes to `target`.
fn reaches(lanes: &BTreeMap<&str, &Lane>, from: &str, target: &str) -> bool {
    let mut visited = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(id) = open.pop() {
        for need in lanes.get(id).into_iter().flat_map(|lane| &lane.needs) {
            if need == target {
                return true;
            }
            if visited.insert(need.as_str()) {
                open.push(need);
            }
        }
    }
    false
}

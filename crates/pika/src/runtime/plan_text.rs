//! Plans as people read them.
//!
//! Owns the layout. Says everything that the plan decides; the whole of it is in `--output json`.

use pika_cloud::{IncusMountPlan, IncusRuntimePlan, InstanceType, ResolvedPlan};

use crate::output::{self, BOLD, WARN, columns, plain};

type Rows = Vec<(String, String)>;

/// A plan that needed no daemon.
pub(super) fn plan(plan: &IncusRuntimePlan) -> String {
    let mut rows = Rows::new();
    let instance_type = match plan.incus.instance_type {
        Some(named) => word(named).to_owned(),
        None => "the operator's default".to_owned(),
    };
    row(&mut rows, "type", instance_type);
    row(&mut rows, "image", plan.incus.image_alias.clone());
    common(
        &mut rows,
        plan,
        plan.incus
            .storage_pool
            .as_deref()
            .unwrap_or("the profile's"),
    );
    title(plan) + &columns(&rows, 2) + &mounts(plan)
}

/// A plan as a server will be asked to carry it out.
pub(super) fn resolved(resolved: &ResolvedPlan) -> String {
    let plan = &resolved.plan;
    let mut rows = Rows::new();
    row(&mut rows, "type", word(resolved.instance_type).to_owned());
    let fingerprint: String = resolved.image_fingerprint.chars().take(12).collect();
    row(
        &mut rows,
        "image",
        format!("{} ({})", plan.incus.image_alias, plain(&fingerprint)),
    );
    common(&mut rows, plan, &resolved.pool);
    let mut text = title(plan) + &columns(&rows, 2) + &mounts(plan);
    for left_out in &resolved.left_out_mounts {
        let (path, source) = (&left_out.guest_path, &left_out.source);
        text.push_str(&format!(
            "{WARN}left out{WARN:#}  {path}: {source} is not there\n"
        ));
    }
    for note in &resolved.notes {
        text.push_str(&format!("{BOLD}note{BOLD:#}      {}\n", plain(note)));
    }
    let target = plan
        .incus
        .target
        .as_ref()
        .map(|target| format!("&target={target}"));
    text.push_str(&format!(
        "\n{BOLD}POST /1.0/instances?project={}{}{BOLD:#}\n{:#}\n",
        plan.incus.project,
        target.unwrap_or_default(),
        resolved.create_body
    ));
    for late in &resolved.late_devices {
        let device: Vec<String> = late
            .device
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let name = &late.device_name;
        text.push_str(&format!(
            "\n{BOLD}after the boot{BOLD:#}  {name}: {}\n",
            device.join(" ")
        ));
    }
    text
}

fn title(plan: &IncusRuntimePlan) -> String {
    format!(
        "{BOLD}{}{BOLD:#} for {}\n",
        plan.identity.instance_name, plan.identity.runtime_id
    )
}

fn row(rows: &mut Rows, name: &str, value: String) {
    rows.push((name.to_owned(), value));
}

fn common(rows: &mut Rows, plan: &IncusRuntimePlan, pool: &str) {
    let incus = &plan.incus;
    let mut place = format!(
        "project {}, profile {}, pool {pool}",
        incus.project, incus.profile
    );
    if let Some(target) = &incus.target {
        place.push_str(&format!(", target {target}"));
    }
    row(rows, "place", place);
    let resources = &plan.resources;
    let sizes: Vec<String> = [
        resources
            .vcpu_count
            .map(|count| output::count(u64::from(count), "CPU")),
        resources.memory_mib.map(|mib| format!("{mib} MiB memory")),
        resources
            .root_disk_gib
            .map(|gib| format!("{gib} GiB root disk")),
    ]
    .into_iter()
    .flatten()
    .collect();
    row(rows, "size", or_else(sizes.join(", "), "the profile's"));
    row(rows, "policies", policies(plan));
    row(
        rows,
        "deadlines",
        or_else(deadlines(plan), "the consumer's"),
    );
    if let Some(command) = &plan.bootstrap.entry_command {
        row(rows, "entry", command.clone());
    }
    let labels: Vec<String> = plan
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if !labels.is_empty() {
        row(rows, "labels", labels.join(", "));
    }
}

fn policies(plan: &IncusRuntimePlan) -> String {
    let policies = &plan.policies;
    let output = &policies.output_collection;
    let mut what: Vec<String> = Vec::new();
    if output.include_logs {
        what.push("logs".to_owned());
    }
    if output.include_result {
        what.push("result".to_owned());
    }
    what.extend(output.artifact_globs.iter().cloned());
    format!(
        "restart {}, retention {}, collect {} ({})",
        json_word(&policies.restart_policy),
        json_word(&policies.retention_policy),
        json_word(&output.mode),
        or_else(what.join(", "), "nothing")
    )
}

fn deadlines(plan: &IncusRuntimePlan) -> String {
    let deadlines = &plan.policies.deadlines;
    let each = [
        ("boot", deadlines.boot_secs),
        ("ready", deadlines.ready_secs),
        ("run", deadlines.run_secs),
        ("idle", deadlines.idle_secs),
    ];
    let set: Vec<String> = each
        .into_iter()
        .filter_map(|(name, secs)| secs.map(|secs| format!("{name} {secs} s")))
        .collect();
    set.join(", ")
}

fn mounts(plan: &IncusRuntimePlan) -> String {
    let rows: Rows = plan
        .mounts
        .iter()
        .map(|mount| (mount.guest_path.clone(), mount_text(mount)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("  {BOLD}mounts{BOLD:#}\n{}", columns(&rows, 4))
}

fn mount_text(mount: &IncusMountPlan) -> String {
    let source = if pika_cloud::mount::is_host_directory(&mount.source) {
        mount.source.clone()
    } else {
        format!("volume {}", mount.source)
    };
    let mode = if mount.read_only {
        "read-only"
    } else {
        "read-write"
    };
    let required = if mount.required {
        "required"
    } else {
        "optional"
    };
    format!(
        "{source} ({}, {mode}, {required}, {})",
        json_word(&mount.kind),
        mount.device_name
    )
}

/// An enum's own word, as its JSON has it.
fn json_word<T: serde::Serialize>(value: &T) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

fn word(instance_type: InstanceType) -> &'static str {
    match instance_type {
        InstanceType::VirtualMachine => "virtual machine",
        InstanceType::Container => "container",
        InstanceType::Auto => "virtual machine where the server can, else container",
    }
}

fn or_else(text: String, silent: &str) -> String {
    if text.is_empty() {
        silent.to_owned()
    } else {
        text
    }
}

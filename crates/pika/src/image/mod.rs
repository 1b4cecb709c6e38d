//! `pika image`: build, import and check guest images.
//!
//! Owns which library call each verb is, its exit code, and where guest programs and cache are found.

mod text;
mod watch;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pika_image::{
    BuildImportError, BuildRequest, BuiltImage, CatalogError, GuestBinaries, ImageState,
    ImportError, ImportRequest, Imported,
};
use pika_incus_guest_role::IncusGuestRole;
use serde::Serialize;

use crate::cli::{BuildOptions, Global, ImageCommand, ImportOptions, OutputFormat, ServerOptions};
use crate::config::{self, Settings};
use crate::exit::{CommandError, Exit};
use crate::output;

/// Largest answer of `build` that `import` reads, in bytes.
const BUILT_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) async fn run(command: ImageCommand, global: &Global) -> Result<Exit, CommandError> {
    match command {
        ImageCommand::Build(options) => {
            let built = build(&options).await?;
            show(global, &built, text::built(&built))
        }
        ImageCommand::Import {
            built,
            build: options,
            import,
        } => {
            let built = match built {
                Some(path) => read_built(&path)?,
                None => build(&options).await?,
            };
            let settings = settings(global, &import.server)?;
            let target = target(options.role, &import);
            let done =
                pika_image::import(&settings.client(), &built, &target, &watch::Watch::new())
                    .await?;
            imported(global, &done)
        }
        ImageCommand::BuildImport { build, import } => {
            let settings = settings(global, &import.server)?;
            let target = target(build.role, &import);
            let request = request(&build)?;
            let watch = watch::Watch::new();
            let done =
                pika_image::build_import(&settings.client(), &request, &target, &watch).await?;
            imported(global, &done)
        }
        ImageCommand::Rollback { role, import } => {
            let settings = settings(global, &import.server)?;
            let target = target(role, &import);
            let watch = watch::Watch::new();
            let done = pika_image::rollback(&settings.client(), &target, &watch).await?;
            imported(global, &done)
        }
        ImageCommand::List(server) => {
            let records = pika_image::list(&settings(global, &server)?.client()).await?;
            show(global, &records, text::list(&records))
        }
        ImageCommand::Check {
            inputs,
            build,
            import,
        } => check(inputs, &build, &import, global).await,
    }
}

async fn check(
    inputs: bool,
    options: &BuildOptions,
    import: &ImportOptions,
    global: &Global,
) -> Result<Exit, CommandError> {
    let settings = settings(global, &import.server)?;
    let digest = if inputs {
        let prepared = pika_image::prepare(&request(options)?, &watch::Watch::new()).await;
        Some(prepared.map_err(build_failed)?.input_digest().to_owned())
    } else {
        None
    };
    let alias = target(options.role, import).alias;
    let report =
        pika_image::check(&settings.client(), options.role, &alias, digest.as_deref()).await?;
    show(global, &report, text::check(&report))?;
    Ok(if report.state == ImageState::Ready {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn show<T: Serialize>(global: &Global, value: &T, text: String) -> Result<Exit, CommandError> {
    match global.output {
        OutputFormat::Json => output::print_json(value)?,
        OutputFormat::Human => output::print(&text)?,
    }
    Ok(Exit::Done)
}

fn imported(global: &Global, done: &Imported) -> Result<Exit, CommandError> {
    show(global, done, text::imported(done))
}

fn settings(global: &Global, server: &ServerOptions) -> Result<Settings, CommandError> {
    let mut settings = Settings::load(global)?;
    if let Some(project) = &server.project {
        settings.project = project.clone();
    }
    Ok(settings)
}

fn target(role: IncusGuestRole, import: &ImportOptions) -> ImportRequest {
    match &import.alias {
        Some(alias) => ImportRequest::under(alias),
        None => ImportRequest::for_role(role),
    }
}

async fn build(options: &BuildOptions) -> Result<BuiltImage, CommandError> {
    pika_image::build(&request(options)?, &watch::Watch::new())
        .await
        .map_err(build_failed)
}

fn build_failed(error: pika_image::BuildError) -> CommandError {
    use pika_image::BuildError;
    let exit = match &error {
        BuildError::Unsupported { .. } | BuildError::GuestBinary { .. } => Exit::Refused,
        _ => Exit::Infrastructure,
    };
    CommandError::new(exit, &error)
}

fn request(options: &BuildOptions) -> Result<BuildRequest, CommandError> {
    let here =
        std::env::current_dir().map_err(|error| CommandError::new(Exit::Infrastructure, &error))?;
    let checkout = checkout_above(&here);
    let guest_binaries = match (&options.guest_binaries, &checkout) {
        (Some(directory), _) => GuestBinaries::Directory(directory.clone()),
        (None, Some(checkout)) => GuestBinaries::Checkout(checkout.clone()),
        (None, None) if Path::new(INSTALLED_GUEST).is_dir() => {
            GuestBinaries::Directory(INSTALLED_GUEST.into())
        }
        // A role without guest programs needs neither.
        (None, None) if options.role.facts().binaries.is_empty() => GuestBinaries::Directory(here),
        (None, None) => {
            let message =
                "the guest's programs are not there: this is no checkout of their sources";
            return Err(CommandError::plain(Exit::Usage, message).with_hint(
                "run it in the checkout, or name their directory with --guest-binaries",
            ));
        }
    };
    let cache_dir = options
        .cache_dir
        .clone()
        .unwrap_or_else(config::default_cache_dir);
    let mut request = BuildRequest::new(options.role, guest_binaries, cache_dir);
    request.kind = options.kind;
    request.builder = options.builder;
    request.host_ca = !options.no_host_ca;
    request.source_revision = checkout.as_deref().and_then(revision);
    Ok(request)
}

/// Where a package of this project has the guest's programs.
const INSTALLED_GUEST: &str = "/usr/lib/pika-cloud/guest";

/// The checkout of this project that a directory is in.
fn checkout_above(directory: &Path) -> Option<PathBuf> {
    let is_checkout = |dir: &&Path| dir.join("crates/pika-guest/Cargo.toml").is_file();
    directory
        .ancestors()
        .find(is_checkout)
        .map(Path::to_path_buf)
}

/// The checkout's revision, with `-dirty` where it differs from what is committed.
fn revision(checkout: &Path) -> Option<String> {
    let output = Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=40",
            "--exclude=*",
        ])
        .current_dir(checkout)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn read_built(path: &Path) -> Result<BuiltImage, CommandError> {
    let name = path.display();
    let failed = |why: String| CommandError {
        exit: Exit::Usage,
        message: format!("{name} is not what `pika image build --output json` prints"),
        causes: vec![why],
        hint: None,
    };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(BUILT_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(BUILT_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

impl From<CatalogError> for CommandError {
    fn from(error: CatalogError) -> CommandError {
        CommandError::new(Exit::Infrastructure, &error)
    }
}

impl From<ImportError> for CommandError {
    fn from(error: ImportError) -> CommandError {
        let exit = match &error {
            ImportError::NothingToRollBack { .. } => Exit::Refused,
            _ => Exit::Infrastructure,
        };
        CommandError::new(exit, &error)
    }
}

impl From<BuildImportError> for CommandError {
    fn from(error: BuildImportError) -> CommandError {
        match error {
            BuildImportError::Build(error) => build_failed(error),
            BuildImportError::Import(error) => error.into(),
        }
    }
}

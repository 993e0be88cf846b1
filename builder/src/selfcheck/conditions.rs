//! Under what a build is made: everything that differs between two machines and must not matter.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use super::SelfCheckError;

/// Variables of the surrounding that both builds need: how to find the toolchain and the network.
const KEPT: [&str; 12] = [
    "PATH",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_AUTO_INSTALL",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SOURCE_DATE_EPOCH",
];
/// The second user's number: no user of any machine that we know of.
const SECOND_USER: u32 = 47_115;
/// A folder name that trips up whoever splits at spaces or counts on ASCII.
const AWKWARD: &str = "zweiter Ort, größer";

/// One build's surroundings.
#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    /// Number of the user as the build sees it; `None`: whoever runs the check.
    pub user: Option<u32>,
    /// File mode creation mask, octal.
    pub umask: &'static str,
    /// `TZ`.
    pub time_zone: &'static str,
    /// `LC_ALL` and `LANG`.
    pub locale: &'static str,
    /// Threads of the builder, and jobs of cargo.
    pub threads: u32,
    /// The checkout.
    pub checkout: PathBuf,
    /// The recipe.
    pub recipe: PathBuf,
    /// Where the image goes.
    pub out: PathBuf,
    /// `HOME`, and the working folder.
    pub home: PathBuf,
    /// `CARGO_HOME`; `None` as it is.
    pub cargo_home: Option<PathBuf>,
    /// `FERRITE_CACHE`; `None` as it is.
    pub cache: Option<PathBuf>,
    /// `CARGO_TARGET_DIR`; `None` as it is.
    pub target: Option<PathBuf>,
}

impl Conditions {
    /// As the user builds, with one thread.
    pub(super) fn first(checkout: &Path, recipe: &Path, scratch: &Path) -> Self {
        Self {
            user: None,
            umask: "022",
            time_zone: "UTC",
            locale: "C",
            threads: 1,
            checkout: checkout.to_owned(),
            recipe: recipe.to_owned(),
            out: scratch.join("first/out"),
            home: scratch.join("first/home"),
            cargo_home: None,
            cache: None,
            target: None,
        }
    }

    /// As somebody else would elsewhere. What this machine cannot vary is noted.
    pub(super) fn second(
        checkout: &Path,
        recipe: &Path,
        scratch: &Path,
        cache: Option<&Path>,
        notes: &mut Vec<String>,
    ) -> Self {
        let place = scratch.join(AWKWARD);
        let copy = place.join("Quelle");
        let moved =
            recipe.strip_prefix(checkout).map_or_else(|_| recipe.to_owned(), |below| copy.join(below));
        if moved == recipe {
            notes.push("the recipe lies outside of the checkout: both builds read it from there".to_owned());
        }
        let user = can_change_user().then_some(SECOND_USER);
        if user.is_none() {
            notes.push(
                "no user namespaces here (`unshare --user` fails): both builds ran as the same user"
                    .to_owned(),
            );
        }
        Self {
            user,
            umask: "077",
            time_zone: "Pacific/Chatham",
            locale: "tr_TR.UTF-8",
            threads: 2,
            checkout: copy,
            recipe: moved,
            out: place.join("Ausgabe"),
            home: place.join("Zuhause"),
            cargo_home: Some(place.join("cargo home")),
            cache: Some(cache.map_or_else(|| place.join("Zwischenspeicher"), Path::to_owned)),
            target: Some(place.join("Ziel")),
        }
    }

    /// Builds with this very program.
    pub(super) fn build(&self, arguments: &[String]) -> Result<(), SelfCheckError> {
        let failed = |program: &str, source| SelfCheckError::Run { program: program.to_owned(), source };
        let program = std::env::current_exe().map_err(|source| failed("ferrite", source))?;
        let mut command = match self.user {
            None => Command::new("sh"),
            Some(user) => {
                let mut command = Command::new("unshare");
                command.arg("--user").arg(format!("--map-user={user}")).arg(format!("--map-group={user}"));
                command.arg("sh");
                command
            }
        };
        command.args(["-c", &format!("umask {} && exec \"$0\" \"$@\"", self.umask)]).arg(program);
        command.arg("build").arg("--recipe").arg(&self.recipe).arg("--out").arg(&self.out).args(arguments);
        command.current_dir(&self.home).stdin(Stdio::null()).env_clear().envs(self.environment());
        let output = command.output().map_err(|source| failed("sh", source))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(SelfCheckError::Build { conditions: self.to_string(), output: text })
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> =
            KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
        let toolchain = |name: &str, below: &str| {
            std::env::var_os(name).or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(below).into()))
        };
        let cargo_home =
            self.cargo_home.clone().map(Into::into).or_else(|| toolchain("CARGO_HOME", ".cargo"));
        let cache = self.cache.clone().unwrap_or_else(|| debian::cache::Cache::from_env().root().to_owned());
        let target = self.target.clone().map(Into::into).or_else(|| std::env::var_os("CARGO_TARGET_DIR"));
        variables.extend([
            ("HOME", self.home.clone().into()),
            ("TMPDIR", self.home.clone().into()),
            ("TZ", self.time_zone.into()),
            ("LANG", self.locale.into()),
            ("LC_ALL", self.locale.into()),
            ("USER", self.user.map_or("builder", |_| "somebody").into()),
            ("RAYON_NUM_THREADS", self.threads.to_string().into()),
            ("CARGO_BUILD_JOBS", self.threads.to_string().into()),
            ("FERRITE_SOURCE", self.checkout.clone().into()),
            ("FERRITE_CACHE", cache.into()),
            ("NO_COLOR", "1".into()),
        ]);
        variables.extend(cargo_home.map(|folder| ("CARGO_HOME", folder)));
        variables.extend(toolchain("RUSTUP_HOME", ".rustup").map(|folder| ("RUSTUP_HOME", folder)));
        variables.extend(target.map(|folder| ("CARGO_TARGET_DIR", folder)));
        variables
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.user {
            Some(user) => write!(f, "user {user}")?,
            None => f.write_str("this user")?,
        }
        write!(
            f,
            ", umask {}, time zone {}, locale {}, {} thread{}, {}",
            self.umask,
            self.time_zone,
            self.locale,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.checkout.display()
        )
    }
}

/// Whether a process can have another user number here, without being root.
fn can_change_user() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1", "--map-group=1", "true"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

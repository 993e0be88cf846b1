//! Our etcdctl beside the one that it stands in for.

mod run;
mod script;

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use ferrite_tests::etcd::{Certificates, Etcd, EtcdOptions};
use ferrite_tests::scratch;

use self::run::{LIMITS, Side, Whose};

const SCENARIOS: &str = include_str!("../../../etcdctl/scenarios.txt");
/// The test has to be one of at least so many commands.
const LEAST: usize = 120;

#[test]
fn it_does_what_etcdctl_of_api_v2_did() -> Result<()> {
    let scenarios = script::parse(SCENARIOS)?;
    let play = |whose| -> Result<Vec<_>> {
        let side = Side::start(whose)?;
        scenarios.iter().map(|scenario| side.play(scenario)).collect()
    };
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| play(Whose::Debians));
        let ours = play(Whose::Ours);
        (theirs.join(), ours)
    });
    let (theirs, ours) = (theirs.unwrap()?, ours?);

    let (mut equal, mut all) = (0, 0);
    let (mut explained, mut wrong) = (String::new(), String::new());
    for ((scenario, theirs), ours) in scenarios.iter().zip(theirs).zip(ours) {
        for ((call, theirs), (_, ours)) in theirs.into_iter().zip(ours) {
            all += 1;
            equal += usize::from(theirs == ours);
            let place = format!("{}: etcdctl {}", scenario.name, call.line);
            match (theirs == ours, &call.reason) {
                (true, None) => {}
                (false, Some(reason)) => writeln!(explained, "{place}\n    {reason}")?,
                (true, Some(reason)) => writeln!(wrong, "{place}\n    is the same, against: {reason}")?,
                (false, None) => writeln!(wrong, "{place}\n    theirs {theirs:?}\n    ours   {ours:?}")?,
            }
        }
    }
    println!("{explained}{wrong}etcdctl: {equal} of {all}");
    ensure!(all >= LEAST, "only {all} commands");
    ensure!(wrong.is_empty(), "not explained:\n{wrong}");
    Ok(())
}

/// Runs ours; what it prints on both streams, and its status.
fn ours(endpoint: &str, words: &[&str]) -> Result<(String, Option<i32>)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcdctl-under-test"));
    command.env_clear().env("ETCDCTL_ENDPOINTS", endpoint).stdin(Stdio::null());
    let output = command.args(LIMITS).args(words).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8(text)?, output.status.code()))
}

#[test]
fn certificates_let_it_in() -> Result<()> {
    let folder = scratch()?;
    let certificates = Certificates::new(folder.path())?;
    let options = EtcdOptions { certificates: Some(certificates.clone()), ..EtcdOptions::default() };
    let etcd = Etcd::start(options)?;
    let endpoint = etcd.endpoints().concat();
    let file = |name: &str| certificates.file(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let proof = ["--ca-file", &ca, "--cert-file", &certificate, "--key-file", &key];
    let with = |words: &[&str]| ours(&endpoint, &[&proof, words].concat());
    assert_eq!(with(&["set", "/tls/k", "v", "--ttl", "60"])?, ("v\n".to_owned(), Some(0)));
    assert_eq!(etcd.ctl(&["get", "/tls/k", "--print-value-only"])?, "v\n");
    assert_eq!(with(&["cluster-health"])?.1, Some(0));
    let (text, status) = ours(&endpoint, &["--ca-file", &ca, "get", "/tls/k"])?;
    assert!(text.starts_with("Error:  client: etcd cluster is unavailable") && status == Some(4), "{text}");
    let (text, status) = ours(&endpoint, &["--cert-file", &certificate, "get", "/tls/k"])?;
    assert!(text.contains("needs its key") && status == Some(1), "{text}");
    Ok(())
}

#[test]
fn a_user_sees_and_changes_what_its_roles_allow() -> Result<()> {
    let etcd = Etcd::start(EtcdOptions::default())?;
    for words in [
        &["user", "add", "root:secret"][..],
        &["user", "add", "app:word"],
        &["role", "add", "own"],
        &["role", "grant-permission", "own", "readwrite", "--prefix=true", "/app/own/"],
        &["user", "grant-role", "root", "root"],
        &["user", "grant-role", "app", "own"],
        &["auth", "enable"],
    ] {
        etcd.ctl(words)?;
    }
    let endpoint = etcd.endpoints().concat();
    let check = |words: &[&str], text: &str, status: i32| -> Result<()> {
        let got = ours(&endpoint, words)?;
        ensure!(got == (text.to_owned(), Some(status)), "{words:?}: {got:?}");
        Ok(())
    };
    let refused = "Error:  110: The request requires user authentication (Insufficient credentials) [0]\n";
    check(&["get", "/app/own/a"], refused, 4)?;
    check(&["-u", "app:wrong", "get", "/app/own/a"], refused, 4)?;
    check(&["-u", "app:word", "set", "/app/own/a/b", "v", "--ttl", "60"], "v\n", 0)?;
    check(&["-u", "app:word", "get", "/app/own/a/b"], "v\n", 0)?;
    check(&["-u", "app:word", "ls", "/app/own/a"], "/app/own/a/b\n", 0)?;
    check(&["-u", "app:word", "rm", "/app/own/a/b"], "PrevNode.Value: v\n", 0)?;
    check(&["-u", "app:word", "ls", "-p", "/app/own"], "/app/own/a/\n", 0)?;
    check(&["-u", "app:word", "mk", "/elsewhere", "v"], refused, 4)?;
    check(&["-u", "root:secret", "ls", "/"], "/app\n", 0)?;
    Ok(())
}

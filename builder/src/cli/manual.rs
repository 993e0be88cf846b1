//! What help and manual pages say beyond the grammar: exit codes, files, environment, examples.
//!
//! Exit codes are written once, in the `Exit codes:` paragraph of a command's help; manual pages take them from there.

use clap::{Arg, Command, CommandFactory as _, ValueHint};

use super::args::Args;

/// A word and what it means.
pub type Entry = (&'static str, &'static str);

/// What is to be said about one command.
#[derive(Debug)]
pub struct Notes {
    /// Names of the command below `ferrite`, separated by blanks; empty for `ferrite` itself.
    pub command: &'static str,
    /// Files that it reads or writes.
    pub files: &'static [Entry],
    /// Variables of the environment.
    pub environment: &'static [Entry],
    /// Command lines and what they do.
    pub examples: &'static [Entry],
}

const CACHE: Entry = (
    "$FERRITE_CACHE, $XDG_CACHE_HOME/ferrite, ~/.cache/ferrite",
    "Downloads by their digests, unpacked packages, the emulator. The first of the three that can be told is used; without \
     any, a folder of the user's in $TMPDIR. It can be removed at any time when no build is running.",
);
const SOURCE: Entry =
    ("FERRITE_SOURCE", "The checkout of Ferrite, in place of the one that built this program.");
const TARGET: Entry = (
    "CARGO_TARGET_DIR",
    "Folder of compiled programs and, below it, of images. Default: target in the checkout.",
);
const PROXY: Entry =
    ("http_proxy, https_proxy, no_proxy", "Proxies for downloads, and the servers that need none.");
const CERTIFICATES: Entry =
    ("SSL_CERT_FILE, SSL_CERT_DIR", "Certificates of authorities that https mirrors are judged by.");
const CACHE_VARIABLE: Entry = ("FERRITE_CACHE", "Folder of the cache.");

const KEYS: Entry = (
    "$FERRITE_KEYS, $XDG_CONFIG_HOME/ferrite/keys, ~/.config/ferrite/keys",
    "Signing keys, NAME.key, each encrypted under its passphrase. The first of the three that can be told is used, unless --keys \
     names a folder.",
);
const KEYS_VARIABLE: Entry = ("FERRITE_KEYS", "Folder of signing keys.");
const PASSPHRASE: Entry = (
    "FERRITE_KEY_PASSPHRASE",
    "Passphrase of the keys, in place of asking; --passphrase-file comes before it.",
);

/// What is said about each command that has more to it than its options.
pub const NOTES: &[Notes] = &[
    Notes {
        command: "",
        files: &[CACHE],
        environment: &[
            CACHE_VARIABLE,
            SOURCE,
            TARGET,
            ("NO_COLOR, CLICOLOR=0, TERM=dumb", "No colours; with TERM=dumb, no progress bars."),
            ("CLICOLOR_FORCE", "Colours although there is no terminal."),
            PROXY,
            CERTIFICATES,
        ],
        examples: &[
            ("ferrite doctor", "what this machine lacks"),
            ("ferrite run", "an image, built when there is none, on the console of this terminal"),
        ],
    },
    Notes {
        command: "build",
        files: &[
            ("recipes/ferrite.yaml", "The recipe, unless --recipe names one."),
            ("recipes/ferrite.lock", "Its lock file, when there is one."),
            (
                "NAME-VERSION-ARCH.raw, .qcow2, .raw.zst, .vhd",
                "The disk image in the formats that --format names, in the folder that --out names.",
            ),
            ("NAME-VERSION-ARCH.usr", "The slot image, which updates are made of."),
            (
                "NAME-VERSION-ARCH.manifest.json",
                "Every package and file, with size, digest and place in the slot.",
            ),
            ("NAME-VERSION-ARCH.sbom.cdx.json", "The bill of materials (CycloneDX)."),
            CACHE,
        ],
        environment: &[
            CACHE_VARIABLE,
            SOURCE,
            TARGET,
            (
                "SOURCE_DATE_EPOCH",
                "Time of the build in seconds since 1970, in place of the time of the youngest file of a package.",
            ),
            ("FERRITE_SNAPSHOT", "Archive of packages that mirrors have dropped, as --snapshot names it."),
            PROXY,
            CERTIFICATES,
        ],
        examples: &[
            ("ferrite build", "the image of recipes/ferrite.yaml"),
            (
                "ferrite build --recipe mine.yaml --out images --version 1.2.0",
                "another image in another place",
            ),
            ("ferrite build --offline --json", "from the cache alone, the result for a script"),
        ],
    },
    Notes {
        command: "run",
        files: &[
            ("IMAGE.disk.qcow2", "What the machine wrote; the image itself is never written."),
            ("IMAGE.vars.fd", "Variables of its firmware."),
            ("ssh/", "The key pair whose public half the machine gets, beside the image."),
            CACHE,
        ],
        environment: &[CACHE_VARIABLE, SOURCE, TARGET, ("TMPDIR", "Sockets of running machines.")],
        examples: &[
            ("ferrite run", "the image of recipes/ferrite.yaml"),
            ("ferrite run --ephemeral --memory 2G --smp 4", "a larger machine that forgets everything"),
            ("ferrite run --port 2379:2379", "etcd's port on this machine's loopback"),
        ],
    },
    Notes {
        command: "cluster up",
        files: &[
            (
                "cluster-NAME/",
                "Disks, logs and user-data of the machines, beside the image; removed with the cluster.",
            ),
            ("ssh/", "The key pair whose public half the machines get, beside the image."),
            CACHE,
        ],
        environment: &[
            CACHE_VARIABLE,
            SOURCE,
            TARGET,
            ("TMPDIR", "Sockets of running machines and of the network between them."),
        ],
        examples: &[
            ("ferrite cluster up", "three machines, one etcd cluster"),
            (
                "ferrite cluster up --name lab --nodes 5 --user-data lab.yml",
                "five with a cloud-config of your own",
            ),
        ],
    },
    Notes {
        command: "cluster partition",
        files: &[],
        environment: &[],
        examples: &[
            ("ferrite cluster partition 1", "node1 alone, all others together"),
            (
                "ferrite cluster partition 1,2 3 --one-way",
                "node3 hears nothing of the others, and they hear it",
            ),
        ],
    },
    Notes {
        command: "cluster link",
        files: &[],
        environment: &[],
        examples: &[
            ("ferrite cluster link 1 2,3 --delay 40 --jitter 10 --loss 1.5", "a bad line to node1"),
            ("ferrite cluster link 2 3 --cut --one-way", "node3 hears nothing of node2"),
        ],
    },
    Notes {
        command: "cluster certs",
        files: &[
            (
                "DIR/ca.pem, ca-key.pem",
                "The authority. Who has the key can make certificates: it belongs on no machine.",
            ),
            (
                "DIR/NAME.pem, NAME-key.pem, NAME.yml",
                "A machine's certificate, its key, and both as a cloud-config.",
            ),
            ("DIR/client.pem, client-key.pem", "For etcdctl and the like."),
        ],
        environment: &[],
        examples: &[(
            "ferrite cluster certs tls node1=10.0.0.11 node2=10.0.0.12 node3=10.0.0.13",
            "everything for three machines",
        )],
    },
    Notes {
        command: "cluster ssh",
        files: &[],
        environment: &[],
        examples: &[
            ("ferrite cluster ssh 1", "a shell on node1"),
            ("ferrite cluster ssh node2 journalctl -u etcd --no-pager", "a command"),
        ],
    },
    Notes {
        command: "inspect",
        files: &[],
        environment: &[],
        examples: &[
            ("ferrite inspect image.raw", "partitions, slots, signatures"),
            ("ferrite inspect --verify image.usr", "with every block of /usr"),
            ("ferrite inspect --json image.raw | jq .slots", "for a script"),
        ],
    },
    Notes {
        command: "validate",
        files: &[],
        environment: &[],
        examples: &[
            ("ferrite validate recipe.yaml", "every problem, with its place"),
            ("ferrite validate --strict user-data.yml", "of a cloud-config, where a warning is one too many"),
            ("ferrite validate nginx@.service", "of a unit file"),
            ("ferrite validate --json recipe.yaml | jq -r '.findings[].message'", "for a script"),
        ],
    },
    Notes {
        command: "lock",
        files: &[
            (
                "RECIPE.lock",
                "The lock file of RECIPE.yaml, beside it: every package with version, digest and size.",
            ),
            CACHE,
        ],
        environment: &[CACHE_VARIABLE, PROXY, CERTIFICATES],
        examples: &[
            ("ferrite lock", "the current packages for recipes/ferrite.yaml"),
            ("ferrite lock --check --offline", "whether the file is what would be written"),
        ],
    },
    Notes {
        command: "why",
        files: &[("NAME-VERSION-ARCH.manifest.json", "What answers come from, beside the image.")],
        environment: &[],
        examples: &[
            ("ferrite why libssl3t64", "who needs a package"),
            ("ferrite why /usr/bin/ssh", "where a file comes from"),
        ],
    },
    Notes {
        command: "diff",
        files: &[("NAME-VERSION-ARCH.manifest.json", "What is compared, beside each image.")],
        environment: &[],
        examples: &[("ferrite diff old.raw new.raw --files", "two builds, file by file")],
    },
    Notes {
        command: "size",
        files: &[("NAME-VERSION-ARCH.manifest.json", "What is added up, beside the image.")],
        environment: &[],
        examples: &[
            ("ferrite size --by package", "the largest packages"),
            ("ferrite size /usr/lib --depth 3", "one folder, three levels deep"),
        ],
    },
    Notes {
        command: "self-check",
        files: &[],
        environment: &[SOURCE, TARGET, CACHE_VARIABLE],
        examples: &[("ferrite self-check --offline", "whether a build depends on anything that it must not")],
    },
    Notes {
        command: "bench build",
        files: &[],
        environment: &[SOURCE, TARGET],
        examples: &[("ferrite bench build --repeats 3 --json", "the figures of three runs each")],
    },
    Notes {
        command: "doctor",
        files: &[CACHE],
        environment: &[CACHE_VARIABLE, SOURCE, TARGET, PROXY, CERTIFICATES],
        examples: &[
            ("ferrite doctor", "everything"),
            ("ferrite doctor --offline", "without asking a mirror"),
            (
                "ferrite doctor --json | jq '.checks[] | select(.status != \"ok\")'",
                "what is not as it should be",
            ),
        ],
    },
    Notes {
        command: "key new",
        files: &[KEYS],
        environment: &[KEYS_VARIABLE, PASSPHRASE],
        examples: &[
            ("ferrite key new timestamp", "the key of the machine that signs the timestamp"),
            ("ferrite key new ann --keys /media/ann", "one of the root keys, on a stick"),
        ],
    },
    Notes {
        command: "key export",
        files: &[KEYS],
        environment: &[KEYS_VARIABLE, PASSPHRASE],
        examples: &[(
            "ferrite key export slot --unencrypted > slot.key",
            "a key for `keys: signing:` of a recipe",
        )],
    },
    Notes {
        command: "publish init",
        files: &[KEYS],
        environment: &[KEYS_VARIABLE, PASSPHRASE],
        examples: &[
            ("ferrite publish init channel", "a key for each role, called like it"),
            ("ferrite publish init channel --set root=ann,bob,eve:2", "two of three holders sign a root"),
        ],
    },
    Notes {
        command: "publish add",
        files: &[
            KEYS,
            (
                "SLOT with .manifest.json in place of .usr",
                "What the payload is grouped by, and where state formats come from.",
            ),
        ],
        environment: &[KEYS_VARIABLE, PASSPHRASE],
        examples: &[
            (
                "ferrite publish add channel out/ferrite-1.1.0-x86_64.usr --channel alpha",
                "a release for everybody on alpha",
            ),
            (
                "ferrite publish add channel 1.1.0.usr --channel stable --percentage 10 --over 24h --dry-run",
                "what machines would see",
            ),
        ],
    },
    Notes {
        command: "publish promote",
        files: &[KEYS],
        environment: &[KEYS_VARIABLE, PASSPHRASE],
        examples: &[(
            "ferrite publish promote channel 1.1.0 --to stable --over 48h",
            "for everybody, within two days",
        )],
    },
    Notes {
        command: "publish refresh",
        files: &[KEYS],
        environment: &[KEYS_VARIABLE, PASSPHRASE],
        examples: &[("ferrite publish refresh channel --passphrase-file passphrase", "for a timer")],
    },
    Notes {
        command: "publish rotate",
        files: &[KEYS, ("DIR/staged-root.json", "A new root that waits for signatures.")],
        environment: &[KEYS_VARIABLE, PASSPHRASE],
        examples: &[
            ("ferrite publish rotate channel --set timestamp=timestamp-2", "another key for the timestamp"),
            (
                "ferrite publish rotate channel --keys /media/eve",
                "one more signature for the root that waits",
            ),
        ],
    },
    Notes {
        command: "serve",
        files: &[("DIR.state", "Reports and groups.")],
        environment: &[],
        examples: &[
            ("ferrite serve channel", "on this machine alone"),
            ("ferrite serve channel --listen 0.0.0.0:80", "for everybody who reaches it"),
        ],
    },
    Notes {
        command: "group",
        files: &[("DIR.state/groups.json", "The groups.")],
        environment: &[],
        examples: &[
            (
                "ferrite group channel stable --percentage 20",
                "a fifth of the machines, the same until it is raised",
            ),
            ("ferrite group channel stable --stop --reason investigating", "nobody for now"),
        ],
    },
    Notes {
        command: "completions",
        files: &[],
        environment: &[],
        examples: &[
            ("ferrite completions bash > ~/.local/share/bash-completion/completions/ferrite", "bash"),
            ("ferrite completions zsh > ~/.zfunc/_ferrite", "zsh, with ~/.zfunc in fpath"),
            ("ferrite completions fish > ~/.config/fish/completions/ferrite.fish", "fish"),
        ],
    },
    Notes {
        command: "man",
        files: &[],
        environment: &[],
        examples: &[
            ("ferrite man build | man -l -", "read a page"),
            ("ferrite man --out ~/.local/share/man/man1", "install all of them"),
        ],
    },
];

/// The notes on a command.
pub fn notes(command: &str) -> Option<&'static Notes> {
    NOTES.iter().find(|notes| notes.command == command)
}

/// The command line's grammar, with the examples in its help and with what shells need to complete values.
pub fn command() -> Command {
    with_examples(Args::command(), "")
}

/// The argument, with what kind of value it takes, by the value's name.
fn completed(argument: Arg) -> Arg {
    let name = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
    match name.as_deref() {
        Some("FILE" | "IMAGE" | "A" | "B") => argument.value_hint(ValueHint::FilePath),
        Some("DIR") => argument.value_hint(ValueHint::DirPath),
        Some("URL") => argument.value_hint(ValueHint::Url),
        _ => argument,
    }
}

fn with_examples(command: Command, path: &str) -> Command {
    let command = command.mut_args(completed);
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| {
        let below = format!("{path} {name}");
        command.mut_subcommand(&name, |sub| with_examples(sub, below.trim_start()))
    });
    match notes(path) {
        Some(notes) if !notes.examples.is_empty() => {
            let lines = notes.examples.iter().map(|(line, what)| format!("  {line}\n      {what}"));
            command.after_long_help(format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n")))
        }
        _ => command,
    }
}

/// Help without its paragraph on exit codes, and these: number and meaning.
pub fn split_exit_codes(help: &str) -> (String, Vec<(u8, String)>) {
    const MARK: &str = "Exit codes: ";
    let is_codes = |paragraph: &&str| paragraph.starts_with(MARK);
    let paragraphs: Vec<&str> = help.split("\n\n").collect();
    let rest: Vec<&str> = paragraphs.iter().copied().filter(|paragraph| !is_codes(paragraph)).collect();
    let found = paragraphs.iter().copied().find(is_codes).and_then(|paragraph| paragraph.strip_prefix(MARK));
    let codes = found.unwrap_or_default().trim_end().trim_end_matches('.').replace('\n', " ");
    let codes = codes.split("; ").filter_map(|code| {
        let (number, meaning) = code.split_once(' ')?;
        Some((number.parse().ok()?, meaning.to_owned()))
    });
    (rest.join("\n\n"), codes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command below this one, itself included, with its path.
    fn all(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        found.push((path.to_owned(), command.clone()));
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
            all(sub, format!("{path} {}", sub.get_name()).trim_start(), found);
        }
    }

    fn commands() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        all(&command(), "", &mut found);
        found
    }

    #[test]
    fn every_command_says_what_its_exit_codes_mean() {
        for (path, command) in commands() {
            // Whoever calls a group of commands without one of them gets a usage error, and nothing else.
            if command.has_subcommands() && !path.is_empty() {
                continue;
            }
            let help = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            let (rest, codes) = split_exit_codes(&help);
            let numbers: Vec<u8> = codes.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers.get(..3), Some(&[0, 1, 2][..]), "{path:?}: {help}");
            assert!(codes.iter().all(|(_, meaning)| meaning.len() > 3), "{path:?}: {codes:?}");
            assert!(!rest.contains("Exit codes"), "{path:?}");
        }
    }

    #[test]
    fn the_readme_has_every_command_and_its_exit_codes() {
        let readme = include_str!("../../../README.md");
        for (path, command) in commands().iter().filter(|(path, _)| !path.is_empty()) {
            assert!(readme.contains(&format!("`ferrite {path}")), "`ferrite {path}` is not in the README");
            let help = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            let (_, codes) = split_exit_codes(&help);
            if !codes.is_empty() {
                let meanings: Vec<String> = codes.into_iter().take(3).map(|(_, meaning)| meaning).collect();
                let row = format!("| `{path}` | {} |", meanings.join(" | "));
                assert!(readme.contains(&row), "the README's table of exit codes lacks:\n{row}");
            }
        }
    }

    #[test]
    fn notes_are_about_commands_that_exist() {
        let known: Vec<String> = commands().into_iter().map(|(path, _)| path).collect();
        for notes in NOTES {
            assert!(known.iter().any(|path| path == notes.command), "{}", notes.command);
        }
    }

    #[test]
    fn examples_are_command_lines_that_are_understood() {
        for (line, _) in NOTES.iter().flat_map(|notes| notes.examples) {
            let own = line.split(['|', '>']).next().unwrap();
            let parsed = command().try_get_matches_from(own.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn exit_codes_are_cut_out_of_help() {
        let (rest, codes) =
            split_exit_codes("One.\n\nExit codes: 0 fine; 1 not\nfine, at all; 130 gone.\n\nTwo.");
        assert_eq!(rest, "One.\n\nTwo.");
        let want = [(0, "fine"), (1, "not fine, at all"), (130, "gone")];
        assert_eq!(codes, want.map(|(number, text)| (number, text.to_owned())));
        assert_eq!(split_exit_codes("nothing").1, []);
    }
}

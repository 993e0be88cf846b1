//! What `publish` refuses (pure). A release that machines have taken cannot be taken back from them, so what would leave
//! them stuck is found here.

use slots::Footer;
use update_engine::channel::{ChannelName, Release, Version};

/// Why something is not published. The texts say what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Signed with the committed key.
    #[error(
        "the slot image is signed with the development key, which everybody has; hint: build it with a key of your own \
         (`keys: signing:`), or say --allow-development-key for a channel of machines that do not matter"
    )]
    DevelopmentKey,
    /// Of another product or architecture.
    #[error(
        "this channel folder is for {expected}, the release is for {found}; hint: each product and architecture has a \
         channel folder of its own"
    )]
    OtherMachine {
        /// What the folder has.
        expected: String,
        /// What the release is for.
        found: String,
    },
    /// The version is taken.
    #[error(
        "{0} is in this folder already, and a published version never changes; hint: `publish promote` brings it to \
         another channel, other content needs another version"
    )]
    VersionTaken(Version),
    /// Nobody would take it.
    #[error(
        "{channel} has {newest} already, so no machine of it would go to {version}; hint: versions of a channel only grow"
    )]
    NotNewer {
        /// The channel.
        channel: ChannelName,
        /// Its newest version.
        newest: Version,
        /// The version that was to be published.
        version: Version,
    },
    /// A loader whose floor has risen would not start it.
    #[error(
        "its rollback index is {index}, that of {newest} in {channel} is {newest_index}: machines that have taken that one \
         may not start it; hint: set `rollback-index: {newest_index}` in the recipe"
    )]
    RollbackIndex {
        /// The channel.
        channel: ChannelName,
        /// The release with the highest index.
        newest: Version,
        /// That index.
        newest_index: u64,
        /// The index of the release that was to be published.
        index: u64,
    },
    /// Machines would lose state.
    #[error(
        "it does not read the state that {from} writes: {}; hint: a release in between must read it, and \
         --minimum-version keeps machines from leaving that one out", state.join(", ")
    )]
    StateLost {
        /// The release that machines may come from.
        from: Version,
        /// Kinds and formats.
        state: Vec<String>,
    },
    /// Machines could not go back.
    #[error(
        "{from} does not read the state that it writes: {} (SAFETY 23); hint: say --no-automatic-rollback if this step is \
         meant to be one way", state.join(", ")
    )]
    OneWay {
        /// The release that machines may come from.
        from: Version,
        /// Kinds and formats.
        state: Vec<String>,
    },
    /// Nobody can take the step.
    #[error(
        "it can only be reached from {minimum} on, but no release of {channel} lies between that and {version}; hint: \
         promote one to {channel} first"
    )]
    OutOfReach {
        /// The channel.
        channel: ChannelName,
        /// The least version to come from.
        minimum: Version,
        /// The version that was to be published.
        version: Version,
    },
    /// The least version to come from is no older version.
    #[error("--minimum-version {minimum} is not older than {version}")]
    MinimumNotOlder {
        /// The least version to come from.
        minimum: Version,
        /// The version that was to be published.
        version: Version,
    },
    /// There is no such release.
    #[error("there is no release {0} here; hint: `publish show` lists them")]
    NoRelease(Version),
    /// It is not in the channel.
    #[error("{version} is not in {channel}; hint: `publish show` lists what is where")]
    NotInChannel {
        /// The release.
        version: Version,
        /// The channel.
        channel: ChannelName,
    },
    /// It is withdrawn.
    #[error("{version} was withdrawn from {channel}: {reason}; hint: publish a newer version")]
    Withdrawn {
        /// The release.
        version: Version,
        /// The channel.
        channel: ChannelName,
        /// Why.
        reason: String,
    },
    /// A text in the slot's footer is no name of a file.
    #[error("the slot's {0} has characters that the name of a target cannot have")]
    Name(&'static str),
}

/// Checks a release that is new to the folder.
///
/// # Errors
/// [`Refusal`]
pub fn check_new(release: &Release, releases: &[Release]) -> Result<(), Refusal> {
    if let Some(other) = releases.first() {
        let machine = |release: &Release| format!("{} on {}", release.product, release.architecture);
        if machine(other) != machine(release) {
            return Err(Refusal::OtherMachine { expected: machine(other), found: machine(release) });
        }
    }
    if releases.iter().any(|other| other.version == release.version) {
        return Err(Refusal::VersionTaken(release.version.clone()));
    }
    match &release.minimum_version {
        Some(minimum) if *minimum >= release.version => {
            Err(Refusal::MinimumNotOlder { minimum: minimum.clone(), version: release.version.clone() })
        }
        _ => Ok(()),
    }
}

/// Checks that a release can come to a channel, beside what is or was there.
///
/// # Errors
/// [`Refusal`]
pub fn check_placement(
    release: &Release,
    channel: &ChannelName,
    releases: &[Release],
) -> Result<(), Refusal> {
    // Withdrawn ones count: there may be machines that run them.
    let there: Vec<&Release> = releases
        .iter()
        .filter(|other| other.channels.contains_key(channel) && other.version != release.version)
        .collect();
    if let Some(newest) =
        there.iter().map(|other| &other.version).max().filter(|newest| **newest > release.version)
    {
        return Err(Refusal::NotNewer {
            channel: channel.clone(),
            newest: newest.clone(),
            version: release.version.clone(),
        });
    }
    if let Some(highest) = there.iter().max_by_key(|other| other.rollback_index)
        && highest.rollback_index > release.rollback_index
    {
        return Err(Refusal::RollbackIndex {
            channel: channel.clone(),
            newest: highest.version.clone(),
            newest_index: highest.rollback_index,
            index: release.rollback_index,
        });
    }
    let reaches =
        |from: &&&Release| release.minimum_version.as_ref().is_none_or(|minimum| from.version >= *minimum);
    for from in there.iter().filter(reaches) {
        let lost = release.cannot_read_after(from);
        if !lost.is_empty() {
            return Err(Refusal::StateLost { from: from.version.clone(), state: lost });
        }
        let one_way = from.cannot_read_after(release);
        if !one_way.is_empty() && release.automatic_rollback {
            return Err(Refusal::OneWay { from: from.version.clone(), state: one_way });
        }
    }
    match &release.minimum_version {
        Some(minimum) if !there.is_empty() && !there.iter().any(|from| reaches(&from)) => {
            Err(Refusal::OutOfReach {
                channel: channel.clone(),
                minimum: minimum.clone(),
                version: release.version.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Checks who signed a slot.
///
/// # Errors
/// [`Refusal::DevelopmentKey`]
pub fn check_slot_key(
    footer: &Footer,
    development: [u8; 32],
    allow_development: bool,
) -> Result<(), Refusal> {
    if footer.key_id.0 == development && !allow_development { Err(Refusal::DevelopmentKey) } else { Ok(()) }
}

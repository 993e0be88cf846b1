//! `member` and `cluster-health`, whose texts are the old ones.

use std::fmt::Write as _;
use std::time::Duration;

use super::failure::{Failure, status};
use super::line::Call;
use super::session::{Attempts, Session};
use super::watching::print;
use crate::cluster::Member;

/// Between two looks of `cluster-health --forever`.
const PAUSE: Duration = Duration::from_secs(10);

/// Where the old one sends those who give a name for a number.
const RECONFIGURATION: &str =
    "https://github.com/etcd-io/etcd/blob/main/Documentation/runtime-configuration.md#remove-a-member";

/// `member list`.
pub fn listed(members: &[Member], leader: u64) -> String {
    let mut text = String::new();
    for member in members {
        let peers = member.peer_urls.join(",");
        // Writing into a `String` never fails.
        let _ = if member.name.is_empty() {
            writeln!(text, "{:x}[unstarted]: peerURLs={peers}", member.id)
        } else {
            let (name, clients) = (&member.name, member.client_urls.join(","));
            let leads = member.id == leader;
            writeln!(
                text,
                "{:x}: name={name} peerURLs={peers} clientURLs={clients} isLeader={leads}",
                member.id
            )
        };
    }
    text
}

/// What `member add` says: how the new one has to be started.
pub fn added(name: &str, id: u64, members: &[Member]) -> String {
    let all = members.iter().flat_map(|member| {
        let own = if member.id == id { name } else { &member.name };
        member.peer_urls.iter().map(move |url| format!("{own}={url}"))
    });
    format!(
        "Added member named {name} with ID {id:x} to cluster\n\nETCD_NAME={name:?}\nETCD_INITIAL_CLUSTER={:?}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        all.collect::<Vec<_>>().join(",")
    )
}

fn plain(text: impl Into<String>) -> Failure {
    Failure::Plain(text.into(), 1)
}

/// These commands ended with 1, whatever it was.
fn in_their_way(failure: Failure) -> Failure {
    let text = String::from_utf8_lossy(&failure.text()).into_owned();
    plain(text.strip_prefix("Error:  ").unwrap_or(&text).trim_end())
}

/// `member list`, `add`, `remove`, `update`.
pub fn member(session: &mut Session, call: &Call) -> Result<(), Failure> {
    let words: Vec<String> =
        call.options.rest.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let sync = session.settings().sync;
    let told = |failure: Failure| match failure.status(sync) {
        status::BAD_CONNECTION => failure,
        _ => in_their_way(failure),
    };
    let text = match (call.name.as_str(), words.as_slice()) {
        ("member list", []) => {
            let members = session.ask(Attempts::AtEach, crate::Client::members).map_err(told)?;
            let leader = session.ask(Attempts::AtEach, crate::Client::leader).map_err(told)?;
            listed(&members, leader)
        }
        ("member list", _) => return Err(plain("No arguments accepted")),
        ("member add", [name, url]) => {
            let urls = [(*url).to_owned()];
            let new = session.ask(Attempts::AtOne, |client| client.add_member(&urls)).map_err(told)?;
            let members = session.ask(Attempts::AtEach, crate::Client::members).map_err(told)?;
            added(name, new.id, &members)
        }
        ("member add", _) => return Err(plain("Provide a name and a single member peerURL")),
        ("member remove", [id]) => {
            let members = session.ask(Attempts::AtEach, crate::Client::members).map_err(told)?;
            let found = members.iter().find(|member| format!("{:x}", member.id) == *id);
            if let Some(member) = members.iter().find(|member| member.name == *id) {
                eprintln!(
                    "Found a member named {}; if this is correct, please use its ID, eg:\n\tetcdctl member remove {:x}\n\
                     For more details, read the documentation at {RECONFIGURATION}\n",
                    member.name, member.id
                );
            }
            let Some(member) = found else {
                return Err(plain(format!("Couldn't find a member in the cluster with an ID of {id}.")));
            };
            session.ask(Attempts::AtOne, |client| client.remove_member(member.id)).map_err(told)?;
            format!("Removed member {id} from cluster\n")
        }
        ("member remove", _) => return Err(plain("Provide a single member ID")),
        ("member update", [id, urls]) => {
            let number = u64::from_str_radix(id.trim_start_matches("0x"), 16);
            let number = number.map_err(|_| plain(format!("No such member: {id}")))?;
            let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
            session.ask(Attempts::AtEach, |client| client.update_member(number, &urls)).map_err(told)?;
            format!("Updated member with ID {id} in cluster\n")
        }
        _ => {
            return Err(plain(
                "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)",
            ));
        }
    };
    print(text.as_bytes())
}

/// `cluster-health`; the exit status.
pub fn health(session: &mut Session, for_ever: bool) -> Result<u8, Failure> {
    let members = session.ask(Attempts::AtEach, crate::Client::members).map_err(|failure| {
        println!("cluster may be unhealthy: failed to list members");
        // It did not ask for the members first: that is what it does.
        Failure::Plain(
            String::from_utf8_lossy(&failure.text()).trim_end_matches('\n').to_owned() + "\n",
            status::SERVER_ERROR,
        )
    })?;
    let client = session.client(session.settings().endpoints.clone(), session.settings().total)?;
    loop {
        let mut healthy = 0;
        for member in &members {
            let id = format!("{:x}", member.id);
            if member.client_urls.is_empty() {
                print(
                    format!("member {id} is unreachable: no available published client urls\n").as_bytes(),
                )?;
                continue;
            }
            let mut was_asked = false;
            for url in &member.client_urls {
                let text = match client.is_healthy(url.trim_end_matches('/')) {
                    Err(error) => {
                        format!("failed to check the health of member {id} on {url}: {error}\n")
                    }
                    Ok(is_healthy) => {
                        was_asked = true;
                        healthy += usize::from(is_healthy);
                        let word = if is_healthy { "healthy" } else { "unhealthy" };
                        format!("member {id} is {word}: got {word} result from {url}\n")
                    }
                };
                print(text.as_bytes())?;
                if was_asked {
                    break;
                }
            }
            if !was_asked {
                let urls = member.client_urls.join(" ");
                print(format!("member {id} is unreachable: [{urls}] are all unreachable\n").as_bytes())?;
            }
        }
        let all = healthy == members.len();
        print(match healthy {
            _ if all => b"cluster is healthy\n",
            0 => b"cluster is unavailable\n",
            _ => b"cluster is degraded\n",
        })?;
        if !for_ever {
            return Ok(if all { 0 } else { status::NOT_HEALTHY });
        }
        print(b"\nnext check after 10 second...\n\n")?;
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_as_they_were() {
        let urls = |port: u16| vec![format!("http://a:{port}")];
        let members = [
            Member { id: 0xab, name: "m0".to_owned(), peer_urls: urls(2380), client_urls: urls(2379) },
            Member { id: 0xcd, peer_urls: urls(2381), ..Member::default() },
        ];
        assert_eq!(
            listed(&members, 0xab),
            "ab: name=m0 peerURLs=http://a:2380 clientURLs=http://a:2379 isLeader=true\ncd[unstarted]: peerURLs=http://a:2381\n"
        );
        assert!(
            added("m1", 0xcd, &members)
                .contains("ETCD_INITIAL_CLUSTER=\"m0=http://a:2380,m1=http://a:2381\"\n")
        );
    }
}

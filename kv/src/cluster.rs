//! The members of a cluster.

use serde::{Deserialize, Serialize};

use crate::client::{Client, Error, Repeat};
use crate::message::id;

/// A member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its number, which people write in hexadecimal digits.
    #[serde(rename = "ID", deserialize_with = "id")]
    pub id: u64,
    /// Its name; empty as long as it has not started.
    pub name: String,
    /// Where other members reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct MemberRequest<'a> {
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "peerURLs", skip_serializing_if = "<[_]>::is_empty")]
    peer_urls: &'a [String],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MemberResponse {
    member: Member,
    members: Vec<Member>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusResponse {
    #[serde(deserialize_with = "id")]
    leader: u64,
}

impl Client {
    /// The members.
    ///
    /// # Errors
    /// [`Error`]
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        let answer: MemberResponse = self.call("cluster/member/list", &Nothing {}, Repeat::Freely)?;
        Ok(answer.members)
    }

    /// The number of the member that leads; 0 while none does.
    ///
    /// # Errors
    /// [`Error`]
    pub fn leader(&self) -> Result<u64, Error> {
        let answer: StatusResponse = self.call("maintenance/status", &Nothing {}, Repeat::Freely)?;
        Ok(answer.leader)
    }

    /// Makes room for a member that will be reached at `peer_urls`.
    ///
    /// # Errors
    /// [`Error`]
    pub fn add_member(&self, peer_urls: &[String]) -> Result<Member, Error> {
        let request = MemberRequest { id: None, peer_urls };
        let answer: MemberResponse =
            self.call("cluster/member/add", &request, Repeat::UnlessItMayHaveHappened)?;
        Ok(answer.member)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// [`Error`]
    pub fn remove_member(&self, id: u64) -> Result<(), Error> {
        let request = MemberRequest { id: Some(id.to_string()), peer_urls: &[] };
        let answer: Result<MemberResponse, Error> =
            self.call("cluster/member/remove", &request, Repeat::UnlessItMayHaveHappened);
        answer.map(|_| ())
    }

    /// Says where a member is reached from now on.
    ///
    /// # Errors
    /// [`Error`]
    pub fn update_member(&self, id: u64, peer_urls: &[String]) -> Result<(), Error> {
        let request = MemberRequest { id: Some(id.to_string()), peer_urls };
        let answer: Result<MemberResponse, Error> =
            self.call("cluster/member/update", &request, Repeat::Freely);
        answer.map(|_| ())
    }
}

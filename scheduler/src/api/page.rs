//! Pages: a token is a limit and the number of a page, 16 bits each, little-endian, in URL-safe base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use super::error;
use super::http::{Request, Response};

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    limit: u16,
    /// From 1.
    number: u16,
}

impl Page {
    /// The page that a request asks for, or the answer to one that asks for none.
    pub fn of(request: &Request, limit: u16) -> Result<Self, Response> {
        let mut tokens =
            request.query.iter().filter(|(name, _)| name == "nextPageToken").map(|(_, value)| value);
        let (token, more) = (tokens.next(), tokens.next());
        if more.is_some() {
            return Err(error(400, "too many values for page token"));
        }
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Ok(Self { limit, number: 1 });
        };
        let bytes = URL_SAFE.decode(token).map_err(|_| error(400, "page token is no base64"))?;
        let [a, b, c, d] = bytes.as_slice() else { return Err(error(400, "page token has another length")) };
        let (own, number) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        if own != limit {
            return Err(error(400, format!("token limit must be {limit}")));
        }
        if number == 0 {
            return Err(error(400, "page must be 1 or more"));
        }
        Ok(Self { limit, number })
    }

    /// The page's part of a list, and the token of the next one if there is more.
    pub fn cut<T>(self, list: Vec<T>) -> (Vec<T>, String) {
        let (limit, number) = (usize::from(self.limit), usize::from(self.number));
        let (from, all) = (limit * (number - 1), list.len());
        let part: Vec<T> = list.into_iter().skip(from).take(limit).collect();
        let next = self.number.checked_add(1).filter(|_| from + limit < all);
        let token = next.map(|next| {
            let [a, b] = self.limit.to_le_bytes();
            let [c, d] = next.to_le_bytes();
            URL_SAFE.encode([a, b, c, d])
        });
        (part, token.unwrap_or_default())
    }
}

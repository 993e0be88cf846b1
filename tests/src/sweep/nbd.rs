//! The part of the NBD protocol that a server of one disk needs (`doc/proto.md` of the NBD project): bytes to requests
//! and answers to bytes, without I/O.

/// Flags of a disk with flushes, discards and writing of zeroes, and without forced unit access: so that QEMU turns that into
/// a write and a flush, and the record has only those two.
pub const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 5 | 1 << 6;
/// Most bytes of one request; QEMU splits larger ones when it is told.
pub const LARGEST: u32 = 32 << 20;

const INIT_MAGIC: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const REQUEST_LEN: usize = 28;
const OPTION_LEN: usize = 16;
/// Longest payload of an option: a name of 4096 bytes and a list.
const LONGEST_OPTION: u32 = 8192;

const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = (1 << 31) | 1;

/// Input/output error, as the protocol numbers it.
pub const EIO: u32 = 5;
/// Invalid argument.
pub const EINVAL: u32 = 22;

/// What a client sent that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Another magic than that of an option.
    #[error("an option without its magic")]
    OptionMagic,
    /// A payload that no option has.
    #[error("an option of {0} bytes")]
    OptionLength(u32),
    /// Another magic than that of a request.
    #[error("a request without its magic")]
    RequestMagic,
    /// More than [`LARGEST`].
    #[error("a request of {0} bytes")]
    RequestLength(u32),
}

/// What the server says first.
pub fn greeting() -> Vec<u8> {
    let mut out = Vec::from(*INIT_MAGIC);
    out.extend(OPTION_MAGIC);
    out.extend(3_u16.to_be_bytes()); // fixed newstyle, no zeroes after an export's name
    out
}

/// An option that a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// Transmission begins, after the answer.
    Go(u32),
    /// Transmission begins, after the old form of the answer.
    Old,
    /// Only asked.
    Info(u32),
    /// The client leaves.
    Abort(u32),
    /// Something that this server does not have.
    Unsupported(u32),
}

/// Takes an option from the front of `bytes`; `None` when it is not whole yet. With it, how many bytes it took.
///
/// # Errors
/// [`ProtocolError`]
pub fn parse_option(bytes: &[u8]) -> Result<Option<(Negotiation, usize)>, ProtocolError> {
    let Some(header) = bytes.first_chunk::<OPTION_LEN>() else { return Ok(None) };
    if !header.starts_with(OPTION_MAGIC) {
        return Err(ProtocolError::OptionMagic);
    }
    let length = u32_at(header, 12);
    if length > LONGEST_OPTION {
        return Err(ProtocolError::OptionLength(length));
    }
    let used = OPTION_LEN + length as usize;
    if bytes.len() < used {
        return Ok(None);
    }
    let option = u32_at(header, 8);
    let parsed = match option {
        OPT_EXPORT_NAME => Negotiation::Old,
        OPT_ABORT => Negotiation::Abort(option),
        OPT_INFO => Negotiation::Info(option),
        OPT_GO => Negotiation::Go(option),
        other => Negotiation::Unsupported(other),
    };
    Ok(Some((parsed, used)))
}

/// The answer to an option, for a disk of `size` bytes.
pub fn answer(negotiation: Negotiation, size: u64) -> Vec<u8> {
    match negotiation {
        Negotiation::Old => {
            let mut out = Vec::from(size.to_be_bytes());
            out.extend(EXPORT_FLAGS.to_be_bytes());
            out
        }
        Negotiation::Go(option) | Negotiation::Info(option) => {
            let mut export = Vec::from(0_u16.to_be_bytes());
            export.extend(size.to_be_bytes());
            export.extend(EXPORT_FLAGS.to_be_bytes());
            let mut sizes = Vec::from(3_u16.to_be_bytes());
            for size in [512, 4096, LARGEST] {
                sizes.extend(size.to_be_bytes());
            }
            let mut out = option_reply(option, REP_INFO, &export);
            out.extend(option_reply(option, REP_INFO, &sizes));
            out.extend(option_reply(option, REP_ACK, &[]));
            out
        }
        Negotiation::Abort(option) => option_reply(option, REP_ACK, &[]),
        Negotiation::Unsupported(option) => option_reply(option, REP_ERR_UNSUP, &[]),
    }
}

fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend(data);
    out
}

/// What a request asks for. Offsets and lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Bytes of the disk.
    Read,
    /// These bytes are to be written.
    Write(Vec<u8>),
    /// Zeroes are to be written.
    Zero,
    /// The content is not needed any more.
    Discard,
    /// What was written is to be durable.
    Flush,
    /// The client leaves; there is no answer.
    Disconnect,
    /// Something that this server does not have.
    Unknown(u16),
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's word for it, which the answer repeats.
    pub cookie: u64,
    /// What is asked for.
    pub command: Command,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

/// Takes a request from the front of `bytes`; `None` when it is not whole yet. With it, how many bytes it took.
///
/// # Errors
/// [`ProtocolError`]
pub fn parse_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, ProtocolError> {
    let Some(header) = bytes.first_chunk::<REQUEST_LEN>() else { return Ok(None) };
    if u32_at(header, 0) != REQUEST_MAGIC {
        return Err(ProtocolError::RequestMagic);
    }
    let kind = u16::from_be_bytes([header[6], header[7]]);
    let length = u32_at(header, 24);
    let (command, used) = match kind {
        0 => (Command::Read, REQUEST_LEN),
        1 => {
            if length > LARGEST {
                return Err(ProtocolError::RequestLength(length));
            }
            let used = REQUEST_LEN + length as usize;
            let Some(data) = bytes.get(REQUEST_LEN..used) else { return Ok(None) };
            (Command::Write(data.to_vec()), used)
        }
        2 => (Command::Disconnect, REQUEST_LEN),
        3 => (Command::Flush, REQUEST_LEN),
        4 => (Command::Discard, REQUEST_LEN),
        6 => (Command::Zero, REQUEST_LEN),
        other => (Command::Unknown(other), REQUEST_LEN),
    };
    if command == Command::Read && length > LARGEST {
        return Err(ProtocolError::RequestLength(length));
    }
    Ok(Some((Request { cookie: u64_at(header, 8), command, offset: u64_at(header, 16), length }, used)))
}

/// The answer to a request: an error number or 0, and the bytes of a read.
pub fn reply(cookie: u64, error: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + data.len());
    out.extend(SIMPLE_REPLY_MAGIC.to_be_bytes());
    out.extend(error.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    out.extend(data);
    out
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(kind: u16, length: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::from(REQUEST_MAGIC.to_be_bytes());
        out.extend(0_u16.to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(7_u64.to_be_bytes());
        out.extend(4096_u64.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn requests_are_read_once_they_are_whole() {
        let write = request(1, 4, b"abcd!");
        for short in 0..32 {
            assert_eq!(parse_request(&write[..short]), Ok(None));
        }
        let expected =
            Request { cookie: 7, command: Command::Write(b"abcd".to_vec()), offset: 4096, length: 4 };
        assert_eq!(parse_request(&write), Ok(Some((expected, 32))));
        let flush = parse_request(&request(3, 0, b"")).unwrap().unwrap();
        assert_eq!((flush.0.command, flush.1), (Command::Flush, 28));
        assert_eq!(
            parse_request(&request(1, LARGEST + 1, b"")),
            Err(ProtocolError::RequestLength(LARGEST + 1))
        );
        assert_eq!(parse_request(&[0; 28]), Err(ProtocolError::RequestMagic));
    }

    #[test]
    fn a_client_that_asks_for_more_than_there_is_is_told_and_goes_on() {
        let mut structured = Vec::from(*OPTION_MAGIC);
        structured.extend(8_u32.to_be_bytes());
        structured.extend(0_u32.to_be_bytes());
        assert_eq!(parse_option(&structured), Ok(Some((Negotiation::Unsupported(8), 16))));
        let said = answer(Negotiation::Unsupported(8), 1 << 20);
        assert_eq!(said[8..16], [0, 0, 0, 8, 0x80, 0, 0, 1]);
        let size = answer(Negotiation::Go(7), 0x0102_0304);
        assert!(size.windows(8).any(|window| window == 0x0102_0304_u64.to_be_bytes()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_option(&bytes), parse_request(&bytes));
        }

        #[test]
        fn any_fields_are_read_without_panic(kind: u16, length: u32, data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = request(kind, length, &data);
            if let Ok(Some((_, used))) = parse_request(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}

//! The power button: the kernel's ACPI events on generic netlink (`acpi_event` family, `linux/genetlink.h`).
//!
//! The family is part of the kernel image, so that neither `evdev` nor a hot-plug watch is needed; the events come once
//! the `button` module is loaded.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, and the attributes of its answer.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const ATTR_FAMILY_NAME: u16 = 2;
const ATTR_GROUPS: u16 = 7;
const ATTR_GROUP_ID: u16 = 2;
const FAMILY: &[u8] = b"acpi_event\0";
/// Device class of power buttons in `struct acpi_genl_event`, drivers/acpi/button.c.
const CLASS: &[u8] = b"button/power";

/// Length of `struct nlmsghdr` and `struct genlmsghdr` together.
const HEADERS: usize = 16 + 4;

/// A socket that hears ACPI events.
pub struct PowerButton {
    socket: Socket,
}

impl std::fmt::Debug for PowerButton {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PowerButton")
    }
}

impl PowerButton {
    /// Subscribes.
    ///
    /// # Errors
    /// When the kernel has no ACPI events.
    pub fn open() -> io::Result<PowerButton> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.send_to(&question(), &SocketAddr::new(0, 0), 0)?;
        let (answer, _) = socket.recv_from_full()?;
        let group = event_group(&answer).ok_or(io::ErrorKind::NotFound)?;
        socket.add_membership(group)?;
        socket.set_non_blocking(true)?;
        Ok(PowerButton { socket })
    }

    /// The descriptor, to be polled.
    pub fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.socket)
    }

    /// Reads what has come; true when a power button was pressed.
    pub fn was_pressed(&self) -> bool {
        let mut pressed = false;
        while let Ok((event, _)) = self.socket.recv_from_full() {
            pressed |= event.windows(CLASS.len()).any(|window| window == CLASS);
        }
        pressed
    }
}

/// Asks the controller for the family by its name.
fn question() -> Vec<u8> {
    let mut attribute = Vec::new();
    let length = u16::try_from(4 + FAMILY.len()).unwrap_or(0);
    attribute.extend(length.to_ne_bytes());
    attribute.extend(ATTR_FAMILY_NAME.to_ne_bytes());
    attribute.extend(FAMILY);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let mut message = Vec::new();
    message.extend(u32::try_from(HEADERS + attribute.len()).unwrap_or(0).to_ne_bytes());
    message.extend(CONTROLLER.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes()); // NLM_F_REQUEST
    message.extend([0; 8]); // sequence number and port: the kernel fills in what matters
    message.extend([GET_FAMILY, 1, 0, 0]);
    message.extend(attribute);
    message
}

/// The id of the family's multicast group in the controller's answer; the family has one.
fn event_group(answer: &[u8]) -> Option<u32> {
    let groups = find(answer.get(HEADERS..)?, ATTR_GROUPS)?;
    let (_, first) = attributes(groups).next()?;
    let id = find(first, ATTR_GROUP_ID)?;
    Some(u32::from_ne_bytes(id.get(..4)?.try_into().ok()?))
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Netlink attributes: length (with the head of 4 bytes), type (upper two bits are flags), value, padding to 4 bytes.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_group_is_found_behind_other_attributes() {
        let group =
            [attribute(1, b"acpi_mc_group\0"), attribute(ATTR_GROUP_ID, &5_u32.to_ne_bytes())].concat();
        let groups = attribute(ATTR_GROUPS | 0x8000, &attribute(1, &group));
        let answer = [vec![0; HEADERS], attribute(ATTR_FAMILY_NAME, FAMILY), groups].concat();
        assert_eq!(event_group(&answer), Some(5));
    }

    proptest! {
        #[test]
        fn garbage_has_no_group_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _either = event_group(&bytes);
        }
    }
}

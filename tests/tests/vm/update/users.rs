//! Accounts over an update and back (SAFETY 24).

use anyhow::Result;
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{Guest, scratch};

use super::{configure, options, os_version, release};
use crate::support::{GIB, wait_until_good};

const NAME: &str = "ferrite-users";

/// A release that brings a system user and a service of it.
const WITH_USER: &str = "
files:
  - path: /usr/lib/sysusers.d/keeper.conf
    content: |
      u keeper - \"Keeps things\" /var/lib/keeper
  - path: /usr/lib/systemd/system/keeper.service
    content: |
      [Service]
      User=keeper
      ExecStart=/bin/sh -c 'id > /var/lib/keeper/who; sleep infinity'
      StateDirectory=keeper
      [Install]
      WantedBy=multi-user.target
units:
  enable: [keeper.service]
";

#[test]
fn an_edited_passwd_goes_to_a_release_with_a_new_user_and_back_safety_24() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    release(NAME, "1.0.0", "")?.disk(&path, GIB)?;
    channel.publish(&release(NAME, "1.1.0", WITH_USER)?)?;
    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    configure(&mut guest, &server)?;
    guest.check(
        "echo 'eve:x:1234:1234:Eve:/home/eve:/bin/sh' >> /etc/passwd && echo 'eve:x:1234:' >> /etc/group",
    )?;
    guest.check("sed -i 's/^core:\\(.*\\):Ferrite.*:\\/home/core:\\1:edited:\\/home/' /etc/passwd")?;
    guest.check("update_engine_client update")?;
    guest.reboot()?;
    guest.expect("1.1.0 (on trial")?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(os_version(&mut guest)?, "1.1.0");
    assert!(guest.check("id eve")?.contains("uid=1234(eve)"));
    let keeper = guest.check("id -u keeper")?;
    assert_eq!(guest.check("systemctl is-active keeper.service")?.trim(), "active");
    assert!(guest.check("cat /var/lib/keeper/who")?.contains("(keeper)"));

    // Back in one command; the user's data and the user's own accounts are as they were.
    let said = guest.check("update_engine_client rollback")?;
    assert!(said.contains("1.0.0"), "{said}");
    guest.reboot()?;
    guest.expect(&format!("{NAME} 1.0.0"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(os_version(&mut guest)?, "1.0.0");
    assert!(guest.check("id eve")?.contains("uid=1234(eve)"));
    assert_eq!(guest.check("stat -c %u /var/lib/keeper/who")?, keeper, "files keep their owner's number");
    guest.poweroff()
}

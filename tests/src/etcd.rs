//! The real etcd on this machine's loopback: one member or several, in a folder that goes away with them.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Tools, scratch};

/// A cluster has to be ready within this.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Certificates in a folder: `ca.pem`, and `server` and `client` with `.pem` and `.key`.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes a CA, a certificate for servers on 127.0.0.1, and one for clients, by openssl. The server's is good for a client, too:
    /// etcd's gateway shows it when it talks to etcd itself.
    ///
    /// # Errors
    /// openssl cannot be had, or fails.
    pub fn new(folder: &Path) -> Result<Self> {
        let tools = Tools::of_packages(&["openssl"])?;
        let openssl = |arguments: &[&str]| -> Result<()> {
            let output = tools.command("openssl")?.args(arguments).current_dir(folder).output()?;
            if !output.status.success() {
                bail!("openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(())
        };
        std::fs::write(
            folder.join("openssl.cnf"),
            "[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign\n\
             [server]\nsubjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth,clientAuth\n\
             [client]\nextendedKeyUsage = clientAuth\n",
        )?;
        let new_key =
            ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "openssl.cnf"];
        let key_and = |name: &str, more: &[&str]| {
            let (key, subject) = (format!("{name}.key"), format!("/CN={name}"));
            let mut arguments = vec!["req"];
            arguments.extend(new_key);
            arguments.extend(["-keyout", &key, "-subj", &subject]);
            arguments.extend(more);
            openssl(&arguments)
        };
        key_and("ca", &["-x509", "-days", "2", "-extensions", "ca", "-out", "ca.pem"])?;
        for name in ["server", "client"] {
            let (request, certificate) = (format!("{name}.csr"), format!("{name}.pem"));
            key_and(name, &["-out", &request])?;
            openssl(&[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "openssl.cnf",
                "-extensions",
                name,
                "-out",
                &certificate,
            ])?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// One of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What a client with a certificate needs.
    pub fn of_client(&self) -> kv::TlsFiles {
        kv::TlsFiles {
            ca: Some(self.file("ca.pem")),
            certificate: Some(self.file("client.pem")),
            key: Some(self.file("client.key")),
        }
    }
}

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// Members.
    pub members: usize,
    /// Whether acknowledged means written to the disk. Without, tests are fast.
    pub durable: bool,
    /// Clients speak TLS and show a certificate.
    pub certificates: Option<Certificates>,
    /// API v2 is served, too.
    pub v2: bool,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self { members: 1, durable: false, certificates: None, v2: false }
    }
}

/// A cluster that ends with this value.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    options: EtcdOptions,
    tools: Tools,
    folder: TempDir,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Etcd {
    /// Starts a cluster and waits until it takes writes.
    ///
    /// # Errors
    /// It cannot be had, or does not come up.
    pub fn start(options: EtcdOptions) -> Result<Self> {
        let tools = Tools::of_packages(&["etcd-server", "etcd-client"])?;
        // All at once, so that no two are the same.
        let listeners: Vec<_> = (0..options.members * 2)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<_, _>>()?;
        let ports: Vec<u16> =
            listeners.iter().map(|it| Ok(it.local_addr()?.port())).collect::<Result<_>>()?;
        drop(listeners);
        let (clients, peers) = ports.split_at(options.members);
        let members = clients.iter().zip(peers);
        let members = members.map(|(&client, &peer)| Member { client, peer, process: None }).collect();
        let mut etcd = Self { members, options, tools, folder: scratch()? };
        for index in 0..etcd.members.len() {
            etcd.restart(index)?;
        }
        etcd.wait_until_ready()?;
        Ok(etcd)
    }

    /// URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.options.certificates.is_some() { "https" } else { "http" };
        self.members.iter().map(|member| format!("{scheme}://127.0.0.1:{}", member.client)).collect()
    }

    /// A configuration of the client for it.
    pub fn config(&self) -> kv::Config {
        let tls = self.options.certificates.as_ref().map(Certificates::of_client).unwrap_or_default();
        kv::Config { endpoints: self.endpoints(), tls, ..kv::Config::default() }
    }

    /// A client for it.
    ///
    /// # Errors
    /// The client's.
    pub fn client(&self) -> Result<kv::Client> {
        Ok(kv::Client::new(self.config())?)
    }

    /// The real etcdctl, for this cluster.
    ///
    /// # Errors
    /// There is none.
    pub fn etcdctl(&self) -> Result<Command> {
        let mut command = self.plain_etcdctl()?;
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.endpoints().join(","));
        if let Some(certificates) = &self.options.certificates {
            for (option, file) in [("--cacert", "ca.pem"), ("--cert", "client.pem"), ("--key", "client.key")]
            {
                command.arg(option).arg(certificates.file(file));
            }
        }
        Ok(command)
    }

    /// The real etcdctl without any settings.
    ///
    /// # Errors
    /// There is none.
    pub fn plain_etcdctl(&self) -> Result<Command> {
        self.tools.command("etcdctl")
    }

    /// What etcdctl prints.
    ///
    /// # Errors
    /// It fails.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.etcdctl()?.args(arguments).output()?;
        if !output.status.success() {
            bail!("etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Ends a member as a power cut does.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        let member = self.members.get_mut(index).context("no such member")?;
        let mut process = member.process.take().context("it does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Stops a member without ending it (`false`), or lets it go on (`true`).
    ///
    /// # Errors
    /// It does not run.
    pub fn let_run(&self, index: usize, run: bool) -> Result<()> {
        let process = self.members.get(index).and_then(|member| member.process.as_ref());
        let pid = Pid::from_child(process.context("it does not run")?);
        kill_process(pid, if run { Signal::CONT } else { Signal::STOP })?;
        Ok(())
    }

    /// Starts a member, with what it has on its disk.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let cluster: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(number, member)| format!("m{number}=http://127.0.0.1:{}", member.peer))
            .collect();
        let url = self.endpoints().get(index).context("no such member")?.clone();
        let mut command = self.tools.command("etcd")?;
        let member = self.members.get_mut(index).context("no such member")?;
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let name = format!("m{index}");
        let log =
            File::options().create(true).append(true).open(self.folder.path().join(format!("{name}.log")))?;
        command
            .args(["--name", &name, "--initial-cluster", &cluster.join(",")])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg("--data-dir")
            .arg(self.folder.path().join(&name))
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000", "--log-level", "warn"]);
        if !self.options.durable {
            command.arg("--unsafe-no-fsync");
        }
        if self.options.v2 {
            command.arg("--enable-v2");
        }
        if let Some(certificates) = &self.options.certificates {
            command.arg("--client-cert-auth");
            for (option, file) in
                [("--trusted-ca-file", "ca.pem"), ("--cert-file", "server.pem"), ("--key-file", "server.key")]
            {
                command.arg(option).arg(certificates.file(file));
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        member.process = Some(command.spawn().context("cannot start etcd")?);
        Ok(())
    }

    /// Waits until the cluster takes writes.
    ///
    /// # Errors
    /// It does not.
    pub fn wait_until_ready(&self) -> Result<()> {
        let client = self.client()?;
        let begun = Instant::now();
        loop {
            match client.put(b"ready", b"", 0) {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > READY_LIMIT => {
                    let log = std::fs::read_to_string(self.folder.path().join("m0.log")).unwrap_or_default();
                    bail!("etcd does not come up: {error}\n{log}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for process in self.members.iter_mut().filter_map(|member| member.process.as_mut()) {
            // It may have ended; there is nothing else to be done.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

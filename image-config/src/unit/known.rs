//! Keys that systemd 257 has and this crate does not understand: told apart from misspelled ones.

/// Of `[Unit]`.
pub(super) const UNIT: &[&str] = &["RequiresOverridable", "RequisiteOverridable"];

/// Of `[Service]`: its own, and those of systemd.exec(5), systemd.kill(5) and systemd.resource-control(5).
pub(super) const SERVICE: &[&str] = &[
    "AppArmorProfile",
    "BindLogSockets",
    "BPFProgram",
    "BusName",
    "ConfigurationDirectoryQuota",
    "CoredumpReceive",
    "CPUShares",
    "DefaultMemoryLow",
    "DefaultMemoryMin",
    "DisableControllers",
    "ExtensionDirectories",
    "ExtensionImagePolicy",
    "ExtensionImages",
    "ImportCredential",
    "IPAccounting",
    "IPAddressAllow",
    "IPAddressDeny",
    "IPEgressFilterPath",
    "IPIngressFilterPath",
    "LoadCredentialEncrypted",
    "LogExtraFields",
    "LogFilterPatterns",
    "LogNamespace",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureDurationSec",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryKSM",
    "MemoryLimit",
    "MemoryPressureThresholdSec",
    "MemoryPressureWatch",
    "MemoryZSwapWriteback",
    "MountImagePolicy",
    "MountImages",
    "NFTSet",
    "NonBlocking",
    "NUMAMask",
    "NUMAPolicy",
    "PrivatePIDs",
    "RebootArgument",
    "RestrictFileSystems",
    "RestrictNetworkInterfaces",
    "RootDirectoryStartOnly",
    "RootEphemeral",
    "RootHash",
    "RootHashSignature",
    "RootImage",
    "RootImageOptions",
    "RootImagePolicy",
    "RootVerity",
    "SELinuxContext",
    "SetCredentialEncrypted",
    "SmackProcessLabel",
    "SocketBindAllow",
    "SocketBindDeny",
    "SystemCallLog",
    "USBFunctionDescriptors",
    "USBFunctionStrings",
];

/// More of systemd.exec(5) and systemd.resource-control(5): names of old that systemd still takes, and limits that hold
/// only until boot or shutdown is over.
pub(super) const OLD_OR_STARTUP: &[&str] = &[
    "BlockIODeviceWeight",
    "BlockIOReadBandwidth",
    "BlockIOWeight",
    "BlockIOWriteBandwidth",
    "DefaultStartupMemoryLow",
    "StartupAllowedCPUs",
    "StartupAllowedMemoryNodes",
    "StartupBlockIOWeight",
    "StartupCPUShares",
    "StartupMemoryHigh",
    "StartupMemoryLow",
    "StartupMemoryMax",
    "StartupMemorySwapMax",
    "StartupMemoryZSwapMax",
    "TimeoutCleanSec",
];

/// Of `[Scope]` beside those of systemd.kill(5) and systemd.resource-control(5). Scopes are made by programs, not by
/// files, and this system has none.
pub(super) const SCOPE: &[&str] =
    &["OOMPolicy", "RuntimeMaxSec", "RuntimeRandomizedExtraSec", "TimeoutStopSec"];

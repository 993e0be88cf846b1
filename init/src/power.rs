//! The last steps of a shutdown: ending processes, unmounting, reboot(2).

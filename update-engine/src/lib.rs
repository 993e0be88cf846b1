//! Updates: what a channel says (`channel`), how a slot image travels (`payload`), and the engine that brings it to
//! the passive slot and hands the machine over to it (`engine`).
//!
//! The library is shared by the publisher (`ferrite publish`), by the channel server and by the machine. Which slot boots
//! next is decided by `slots` alone; this crate never writes a table by itself.

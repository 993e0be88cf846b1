//! A disk as programs of this model use it: every write and flush of theirs is kept, so that it can be cut again.

use std::io;

use slots::{Device, Geometry};

use super::record::Write;
use super::sectors::{Content, Patched, SECTOR_BYTES, Sectors};

/// What a program did to the disk.
#[derive(Debug, Clone)]
pub enum Op {
    /// Wrote.
    Write(Write),
    /// Flushed.
    Flush,
}

/// How the disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behaviour {
    /// Writes fail (a further axis of SAFETY 28).
    pub refuses_writes: bool,
    /// Flushes do nothing, without saying so (SAFETY 10).
    pub ignores_flushes: bool,
}

/// A state under the hands of firmware and loader.
#[derive(Debug)]
pub struct ModelDisk<'a> {
    layer: Patched<'a>,
    behaviour: Behaviour,
    /// What was done so far.
    pub ops: Vec<Op>,
    /// No reads any more: the machine has been handed over.
    pub left: bool,
}

impl<'a> ModelDisk<'a> {
    /// The disk in this state.
    pub const fn over(state: &'a dyn Sectors, behaviour: Behaviour) -> Self {
        Self { layer: Patched::over(state), behaviour, ops: Vec::new(), left: false }
    }

    /// The disk as it is now.
    pub const fn now(&self) -> &Patched<'a> {
        &self.layer
    }
}

impl Device for ModelDisk<'_> {
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        Geometry { block_size: 512, blocks: self.layer.size() / SECTOR_BYTES }
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.left {
            return Err(io::Error::other("another program has the machine"));
        }
        self.layer.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.left || self.behaviour.refuses_writes {
            return Err(io::Error::other("write error"));
        }
        let content = Content::Memory(data.into());
        self.layer.write(offset, &content);
        self.ops.push(Op::Write(Write { offset, content }));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.behaviour.refuses_writes {
            return Err(io::Error::other("flush error"));
        }
        if !self.behaviour.ignores_flushes {
            self.ops.push(Op::Flush);
        }
        Ok(())
    }
}

//! Text in sealed memory: a file without a name that nobody can change any more.
//!
//! Executing a script from it needs no directory that allows execution, leaves nothing behind,
//! and shows the interpreter exactly the text that was agreed on.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};

/// A file in memory with that content, readable and executable by everybody it is handed to.
pub fn memory(name: &str, content: &[u8]) -> std::io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(content)?;
    file.rewind()?;
    fchmod(&file, Mode::from_bits_truncate(0o555))?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

/// The path under which a process that holds the descriptor finds the file.
pub fn path_of(file: &OwnedFd) -> CString {
    super::c_text(&format!("/proc/self/fd/{}", file.as_raw_fd()))
}

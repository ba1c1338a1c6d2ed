//! The first line of a script, and what went wrong if it could not be started.

use std::path::{Path, PathBuf};

use super::PATH;

/// Which interpreter a script asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shebang {
    /// What the kernel will execute.
    pub interpreter: PathBuf,
    /// The program that `env` will look for, if the interpreter is `env`.
    pub looked_up: Option<String>,
}

impl Shebang {
    /// Reads the first line as the kernel does. An error is a sentence.
    pub fn of(text: &str) -> Result<Self, String> {
        let line = text.lines().next().unwrap_or_default();
        let raw = text.split('\n').next().unwrap_or_default();
        let Some(rest) = line.strip_prefix("#!") else {
            return Err("the script does not begin with `#!` and an interpreter".into());
        };
        if raw.ends_with('\r') {
            return Err("the first line ends with a carriage return, which would become part of \
                        the interpreter's name"
                .into());
        }
        let mut words = rest.split_ascii_whitespace();
        let Some(interpreter) = words.next().filter(|word| word.starts_with('/')) else {
            return Err("the first line names no interpreter by its full path".into());
        };
        let interpreter = PathBuf::from(interpreter);
        let is_env = interpreter.file_name().is_some_and(|name| name == "env");
        let mut words = words.filter(|word| !word.starts_with('-') && !word.contains('='));
        let looked_up = if is_env { words.next().map(str::to_owned) } else { None };
        Ok(Self { interpreter, looked_up })
    }

    /// The program that reads the script in the end, if it is there.
    pub fn program(&self) -> Result<PathBuf, String> {
        let program = match &self.looked_up {
            None => self.interpreter.clone(),
            Some(name) if name.contains('/') => PathBuf::from(name),
            Some(name) => PATH
                .split(':')
                .map(|directory| Path::new(directory).join(name))
                .find(|path| path.is_file())
                .ok_or_else(|| format!("`{name}` is in none of the directories {PATH}"))?,
        };
        if !program.is_file() {
            return Err(format!("the interpreter {} does not exist here", program.display()));
        }
        nix::unistd::access(&program, nix::unistd::AccessFlags::X_OK)
            .map_err(|why| format!("{} cannot be executed: {why}", program.display()))?;
        Ok(program)
    }

    /// Why the kernel refused to start the script, as a sentence.
    pub fn explain(&self, error: &std::io::Error) -> String {
        let interpreter = self.interpreter.display();
        match error.raw_os_error() {
            Some(libc::ENOENT) => format!("the interpreter {interpreter} does not exist here"),
            Some(libc::EACCES) => {
                format!("the interpreter {interpreter} may not be executed by the script's user")
            }
            Some(libc::ENOEXEC) => {
                format!("the interpreter {interpreter} is not a program that this machine can run")
            }
            _ => format!("the interpreter {interpreter} could not be started: {error}"),
        }
    }
}

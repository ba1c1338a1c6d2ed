//! Texts of a story: what follows a command behind `|`, groups in one line, files.

use std::fmt::Write as _;
use std::path::Path;

/// The commands of a block, each with the text that follows it.
pub(super) fn commands<'a>(block: &[&'a str]) -> Vec<(&'a str, String)> {
    let mut commands: Vec<(&str, String)> = Vec::new();
    for line in block {
        match (line.trim_start().strip_prefix('|'), commands.last_mut()) {
            (Some(text), Some((_, whole))) => {
                whole.push_str(text.strip_prefix(' ').unwrap_or(text));
                whole.push('\n');
            }
            _ => commands.push((line, String::new())),
        }
    }
    commands
}

/// The text of a command: what follows it, or the file of the core's examples that it names.
pub(super) fn given(words: &[&str], text: &str) -> Result<String, String> {
    let named = words.iter().skip_while(|word| **word != "file").nth(1);
    let Some(name) = named else { return Ok(text.into()) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster-core/testdata/rules");
    std::fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"))
}

/// A group in a line: nodes, then `with` the kinds of its resources; an application if none.
pub(super) fn group(name: &str, policy: &str, rest: &[&str], before: Option<&str>) -> String {
    let list = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| word.trim_end_matches(',').to_owned()).collect()
    };
    let with = rest.iter().position(|word| *word == "with").unwrap_or(rest.len());
    let nodes: Vec<String> = list(&rest[..with]).iter().map(|node| format!("{node:?}")).collect();
    let mut kinds = list(rest.get(with + 1..).unwrap_or_default());
    if kinds.is_empty() {
        kinds.push("app".into());
    }
    let earlier = before.map_or(0, |text| text.matches("policy").count());
    let mut text =
        format!("[groups.{name}]\npolicy = \"{policy}\"\nnodes = [{}]\n", nodes.join(", "));
    for kind in kinds {
        let what = match kind.as_str() {
            "ip" => format!("kind = \"address\"\naddress = \"10.0.1.{}/24\"\n", 200 + earlier),
            "disk" => format!("kind = \"volume_group\"\nvolume_group = \"{name}vg\"\n"),
            "files" => format!(
                "kind = \"file_system\"\ndevice = \"/dev/{name}vg/files\"\n\
                 mount_point = \"/srv/{name}\"\nfs_type = \"ext4\"\n"
            ),
            _ => "kind = \"application\"\nstart = [\"/bin/true\"]\nstop = [\"/bin/true\"]\n".into(),
        };
        write!(text, "[[groups.{name}.resources]]\nname = \"{name}-{kind}\"\n{what}").ok();
    }
    text
}

//! Start programs that only have something else start a service: what they start lives where no lease ends it.

use super::{WEB, read, state};

/// R1: a program that only asks systemd is told apart before anything depends on it.
#[test]
fn r1_systemctl_as_a_start_program_is_advised_against() {
    let text =
        WEB.replace("[\"/opt/web\", \"start\"]", "[\"/usr/bin/systemctl\", \"start\", \"web\"]");
    let found: Vec<String> = read(&text, &state()).1.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "line 13: warning: groups.web.resources.web-app.start: systemctl has systemd start it, where the end \
          of the lease does not end it. Make the unit the resource: kind = \"systemd\" and unit = \
          \"NAME.service\"."
        ]
    );
}

/// R1: so is a program that asks an engine, in a shell's words too, unless a release program is named; an argument is no program.
#[test]
fn r1_an_engine_in_a_start_program_is_advised_against() {
    let told = |start: &str, more: &str| {
        let text = WEB.replace("[\"/opt/web\", \"start\"]", &format!("{start}{more}"));
        let found = read(&text, &state()).1;
        found.iter().filter(|it| it.what.contains("start it, where the end of the lease")).count()
    };
    let release = "\nrelease = [\"/usr/bin/docker\", \"kill\", \"web\"]";
    assert_eq!(told("[\"/usr/bin/docker\", \"start\", \"web\"]", ""), 1);
    assert_eq!(told("[\"/bin/sh\", \"-c\", \"cd /; podman start web\"]", ""), 1);
    assert_eq!(told("[\"/etc/init.d/web\", \"start\"]", ""), 1);
    assert_eq!(told("[\"/usr/bin/docker\", \"start\", \"web\"]", release), 0);
    assert_eq!(told("[\"/opt/web\", \"docker\"]", ""), 0);
}

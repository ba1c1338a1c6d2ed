//! Changes of groups that maintenance or a forced stop left running.

use super::*;

/// R8: a change that would take a group away and leave it off until maintenance ends is refused; how it is watched may
/// change.
#[test]
fn r8_what_is_left_running_is_not_changed_beneath() {
    let errors = |change: fn(&mut ClusterState), text: &str| -> Vec<String> {
        let mut state = running(state(), "web", NodeNumber(1));
        state.definition = read(WEB, &state).0.definition;
        change(&mut state);
        let found = read(text, &state).1;
        found.iter().filter(|it| it.error).map(ToString::to_string).collect()
    };
    let other = WEB.replace("\"start\"]", "\"start\", \"-v\"]");
    let faster = WEB.replacen("kind =", "monitor_interval = \"7s\"\nkind =", 1);
    assert!(other != WEB && faster != WEB);
    let unmanaged = |state: &mut ClusterState| {
        let web = state.groups.get_mut("web").expect("it runs");
        web.instances.get_mut(&NodeNumber(1)).expect("on n1").state = GroupState::Unmanaged;
    };
    let maintenance = |state: &mut ClusterState| state.manager.maintenance = true;
    for change in [unmanaged, maintenance] {
        let said = errors(change, &other).join("\n");
        assert!(said.contains("web is left running on n1"), "{said}");
        assert!(said.contains("vedette maintenance off"), "{said}");
        assert_eq!(errors(change, &faster), [""; 0]);
        assert_eq!(errors(change, WEB), [""; 0]);
    }
    assert_eq!(errors(|_| {}, &other), [""; 0]);
}

//! A member whose disk is full: everything is well but that, and it says so itself.

use super::{Facts, GROUPS_ALONE, assert_can_fail_but, assert_told, standby, told, web};
use crate::{lab, make_healthy, wait_healthy};

/// Room on the node's disk beside what it needs.
const ROOM: u64 = 24 << 20;

/// F3: a member that owns nothing has little room on its disk, then none, then as much as before.
#[test]
fn a_disk_that_is_full() {
    let lab = lab();
    let asked = standby(&lab, &web(&lab));
    lab.give_small_disk(&asked, ROOM).expect("a disk of its own");
    wait_healthy(&lab);
    let before = told(&lab, &asked);
    let full = Facts { conditions: Some(vec!["disk_full".into()]), ..Facts::well(&lab) };

    lab.fill_disk(&asked, 4 << 20).expect("filled");
    assert_told(&lab, &asked, "4 MiB are left on its disk", &full);
    assert_can_fail_but(GROUPS_ALONE, "its disk is full", &before, &full);
    lab.fill_disk(&asked, 0).expect("filled");
    assert_told(&lab, &asked, "nothing is left on its disk", &full);
    lab.free_disk(&asked).expect("freed");
    make_healthy(&lab);
    assert_told(&lab, &asked, "its disk has room", &Facts::well(&lab));
}

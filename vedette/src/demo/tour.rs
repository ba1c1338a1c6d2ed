//! What a newcomer is told: where each surface is, and what to try. Every line that looks like a
//! command works as it is printed.

use std::io::{self, Write};

use nix::unistd::{AccessFlags, access};
use vedette::sandbox::{self, LabFile, LabNode, Sandbox, SandboxNode};

/// Prints it.
pub(super) fn print(sandbox: &Sandbox, file: &LabFile) -> io::Result<()> {
    let mut out = io::stdout().lock();
    surfaces(&mut out, sandbox, file)?;
    writeln!(out, "\nTry it, in another terminal:")?;
    for (number, (command, comment)) in steps(sandbox, file).iter().enumerate() {
        writeln!(out, "{:3}. # {comment}\n     {command}", number + 1)?;
    }
    writeln!(out, "\nCtrl-C here ends the demo and removes everything.")?;
    out.flush()
}

/// How the program is called as this node.
fn ask(sandbox: &Sandbox, node: &SandboxNode) -> String {
    let shorthand = node.shorthand();
    if access(&shorthand, AccessFlags::X_OK).is_ok() {
        return shorthand.display().to_string();
    }
    // The directory is mounted without the right to execute.
    format!("{} --config {}", sandbox.program.display(), node.config().display())
}

fn surfaces(out: &mut impl Write, sandbox: &Sandbox, file: &LabFile) -> io::Result<()> {
    let first = &file.nodes[0];
    let ask = ask(sandbox, &sandbox.nodes[0]);
    writeln!(
        out,
        "\nThe cluster is up. Where to look (any node will do, this is {}):",
        first.name
    )?;
    writeln!(out, "  terminal    {ask} status")?;
    writeln!(out, "  browser     {}/", first.http)?;
    writeln!(out, "  API         curl {}/api/v1/nodes", first.http)?;
    writeln!(out, "  live        curl -N {}/api/v1/watch", first.http)?;
    writeln!(out, "  metrics     curl {}/metrics", first.http)?;
    writeln!(out, "  SNMP        {}", snmp(sandbox, first))?;
    match &file.traps {
        Some(traps) => writeln!(out, "  traps       tail -f {}", traps.display())?,
        None => writeln!(out, "  traps       not received; for them: apt-get install snmptrapd")?,
    }
    match &file.prometheus {
        Some(url) => {
            writeln!(out, "  Prometheus  {url}/graph?g0.tab=1&g0.expr=vedette_node_host_status==1")?
        }
        None => writeln!(out, "  Prometheus  does not run; for it: apt-get install prometheus")?,
    }
    writeln!(out, "  history     {ask} history show")?;
    writeln!(out, "  alerts      {ask} alert log")?;
    writeln!(out, "  files       {}/demo.json", sandbox.dir.display())
}

fn snmp(sandbox: &Sandbox, node: &LabNode) -> String {
    let missing = |program: &str, package: &str| {
        sandbox::find_program(program).is_none().then(|| package.to_owned())
    };
    let wanted = [missing("snmpd", "snmpd"), missing("snmpwalk", "snmp")];
    let wanted: Vec<String> = wanted.into_iter().flatten().collect();
    if !wanted.is_empty() {
        return format!("not shown; for it: apt-get install {}", wanted.join(" "));
    }
    format!(
        "snmpwalk -v2c -c {} -M {} -m VEDETTE-MIB {} vedetteNodeTable",
        node.snmp.community,
        sandbox.mibs().display(),
        node.snmp.address
    )
}

/// Commands, each with what it shows.
fn steps(sandbox: &Sandbox, file: &LabFile) -> Vec<(String, String)> {
    let ask = |index: usize| ask(sandbox, &sandbox.nodes[index]);
    let last = file.nodes.len() - 1;
    let node = &file.nodes[last];
    let mut steps = Vec::new();
    if let (true, Some(guard), Some(agent)) = (last > 0, node.guard_pid, node.agent_pid) {
        let name = &node.name;
        steps.push((format!("kill -9 {guard} {agent}"), format!("{name} loses power")));
        let seen = match last {
            1 => format!("a second later: {name} is silent, and one of two is no majority"),
            _ => format!("a second later: {name} is DOWN, and why"),
        };
        steps.push((format!("{} status", ask(0)), seen));
        if last > 1 {
            let web = format!("and its group web runs on {}", file.nodes[last - 1].name);
            steps.push((format!("{} group list", ask(0)), web));
            let story = "the failover, step by step".to_owned();
            steps.push((format!("{} incident show", ask(0)), story));
        }
        let daemon = format!("{} daemon >> {} 2>&1 &", ask(last), node.log.display());
        steps.push((daemon, format!("{name} comes back, and web goes home")));
    }
    // One that was not killed in the first step, and seldom the director.
    let middle = &file.nodes[last.saturating_sub(1).min(1)];
    if let Some(agent) = middle.agent_pid {
        let what = format!("only the agent of {}: its host stays UP", middle.name);
        steps.push((format!("kill -9 {agent}"), what));
        steps.push((format!("{} history show", ask(0)), "the whole story".into()));
    }
    if last > 0 {
        let to = &file.nodes[last.saturating_sub(1)].name;
        let plan = format!("{} group plan --what-if {}=down", ask(0), file.nodes[0].name);
        steps.push((plan, "what would happen, and why".into()));
        let moved = format!("{} group move batch --to {to}", ask(0));
        steps.push((moved, "a planned move".into()));
    }
    steps.push((format!("{} alert test", ask(0)), "runs the alert script on every node".into()));
    let same = "every node holds the same history";
    steps.push((format!("{} history compare", ask(0)), same.into()));
    steps
}

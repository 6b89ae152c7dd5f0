//! Who may call a route, beside what its credentials say.

use ipnet::IpNet;

use super::Rules;
use crate::{
    fault::{Fault, Place},
    model::Route,
};

/// `allow` and `deny` of one route.
pub(super) fn addresses(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let (allow, deny) = (route.allow.as_deref().unwrap_or_default(), route.deny.as_deref().unwrap_or_default());
    for (key, list) in [("allow", allow), ("deny", deny)] {
        let list: Vec<IpNet> = list.iter().map(IpNet::trunc).collect();
        rules.repeated(&table.key(key), &list);
    }
    if !rules.sound(&table.key("deny")) {
        return;
    }
    for (i, network) in allow.iter().enumerate() {
        if let Some(denied) = deny.iter().find(|denied| denied.contains(network)) {
            let message = format!("`{network}` never passes: it is within `{denied}` of `deny`, which wins");
            let fault = Fault::warning(table.key("allow").index(i), message);
            rules.add(fault.help("remove it, or deny less"));
        }
    }
}

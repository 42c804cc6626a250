"""Who reaches whom."""

import sources

from .objects import containers, is_ours, kind, labels, matches, name, pods


# Who is outside of the namespace, or of the cluster: how a policy would name it, and the ports that it takes.
OUTSIDE_PODS = {
    "traefik": ("traefik", {"app.kubernetes.io/name": "traefik"}),
    "prometheus": ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "keda": ("keda", {"app": "keda-operator"}),
}
PRIVATE, INTERNET = "10.0.7.7", "203.0.113.7"
# Servers by the name that the table of flows gives them: as pods of a cluster on a laptop, and outside on AWS.
SERVERS = {
    "postgresql": (("postgresql", 5432), (PRIVATE, 5432)),
    "redis": (("redis", 6379), (PRIVATE, 6379)),
    "sales-database": (("mariadb", 3306), (PRIVATE, 3306)),
    "s3": (("localstack", 4566), (INTERNET, 443)),
    "sqs": (("localstack", 4566), (INTERNET, 443)),
    "bsale": (("bsale", 8080), (INTERNET, 443)),
    "bigquery": (("bigquery", 8080), (INTERNET, 443)),
    "telnyx": ((None, 443), (INTERNET, 443)),
    "twilio": ((None, 443), (INTERNET, 443)),
}


def network(objects):
    """Which flows the policies open: {(from, to, port)} between all processes, servers and those outside, by the policies of
    who talks, and by those of who is talked to. A flow is open where both agree; each must say no more than the table. And
    which ports each target has."""
    in_cluster = any(name(item) == "postgresql" for item in kind(objects, "StatefulSet"))
    ours, peers = {}, {}
    for item, template in pods(objects):
        peers[name(item)] = ("lote", template["metadata"]["labels"])
        if is_ours(item):
            ours[name(item)] = item
    for item in kind(objects, "RabbitmqCluster"):
        peers[name(item)] = ("lote", {"app.kubernetes.io/name": name(item)})
    peers |= OUTSIDE_PODS
    # A pod of this namespace that no policy names: it reaches nobody, and nobody it.
    peers["stranger"] = ("lote", {})
    # Where each target of the table is: pods or an address, and on which ports (a name is the pod's own).
    targets = {}
    for process, item in ours.items():
        ports = {port["name"]: port["containerPort"] for port in item["spec"]["template"]["spec"]["containers"][0].get("ports", [])}
        targets[process] = [(process, port, port_name) for port_name, port in ports.items()]
    targets["rabbitmq"] = [("rabbitmq", port, None) for port in (5672, 15672, 15692)]
    for server, (inside, outside) in SERVERS.items():
        place, port = inside if in_cluster and inside[0] else outside
        targets[server] = [(place, port, None)]
    targets["stranger"] = [("stranger", 80, None)]
    sources_ = {**{one: peers[one] for one in ours}, **OUTSIDE_PODS, "stranger": peers["stranger"]}
    out, into = set(), set()
    for source, (namespace, found) in sources_.items():
        for target, places in targets.items():
            if target == source:
                continue
            for place, port, port_name in places:
                to_namespace, to = peers.get(place, (None, place))
                if namespace == "lote" and opened(objects, "Egress", found, to_namespace, to, port, port_name):
                    out.add((source, target, port_name or port))
                # Other namespaces' own policies are not ours.
                if to_namespace == "lote" and opened(objects, "Ingress", to, namespace, found, port, port_name):
                    into.add((source, target, port_name or port))
    return out, into, {target: [port_name or port for _, port, port_name in places] for target, places in targets.items()}


def port_for(source, target, ports):
    """Which of a target's ports a flow of the table is for."""
    if target == "rabbitmq":
        return {"keda": 15672, "prometheus": 15692}.get(source, 5672)
    if "metrics" in ports:
        return "metrics" if source == "prometheus" else "http"
    (port,) = ports
    return port


def opened(objects, direction, mine, peer_namespace, peer, port, port_name):
    """Whether the policies of the pods with the labels `mine` let it talk to the peer, or the peer to it: a pod by its labels,
    or an address. Without a policy everything is open."""
    key = {"Egress": "to", "Ingress": "from"}[direction]

    def peers_fit(rule):
        if key not in rule:
            return True
        for one in rule[key]:
            if isinstance(peer, str):
                if "ipBlock" in one and inside(peer, one["ipBlock"]):
                    return True
            elif "ipBlock" not in one:
                spaces = one.get("namespaceSelector")
                there = {"kubernetes.io/metadata.name": peer_namespace}
                fits = matches(spaces, there) if spaces is not None else peer_namespace == "lote"
                if fits and matches(one.get("podSelector", {}), peer):
                    return True
        return False

    def ports_fit(rule):
        return "ports" not in rule or any(
            one["port"] in (port, port_name) and one.get("protocol", "TCP") == "TCP" for one in rule["ports"])

    of_mine = [item["spec"] for item in kind(objects, "NetworkPolicy")
               if direction in item["spec"]["policyTypes"] and matches(item["spec"]["podSelector"], mine)]
    return not of_mine or any(
        peers_fit(rule) and ports_fit(rule) for spec in of_mine for rule in spec.get(direction.lower(), []))


def inside(address, block):
    import ipaddress
    one = ipaddress.ip_address(address)
    return one in ipaddress.ip_network(block["cidr"]) and not any(one in ipaddress.ip_network(part) for part in block.get("except", []))


def flows_are_the_tables(objects):
    pairs, (out, into, ports) = sources.flows(), network(objects)
    wanted = {(source, target, port_for(source, target, ports[target])) for source, target in pairs}
    in_cluster = any(name(item) == "postgresql" for item in kind(objects, "StatefulSet"))
    # A policy knows pods and addresses, not names: who may reach one server at a place may reach all there. S3 and SQS are one
    # server on a laptop; on AWS, all that speak TLS on the internet are.
    place = {server: here if in_cluster and here[0] else outside for server, (here, outside) in SERVERS.items()}
    for side in (out, into):
        for source, target, port in side - wanted:
            if any((source, other) in pairs and place[other] == place.get(target) for other in place):
                side.discard((source, target, port))
    extra = sorted((out | into) - wanted, key=str)
    wrong = [f"{one} → {to} at {port} is open, and not in ARCHITECTURE's table" for one, to, port in extra]
    for one, to, port in sorted(wanted, key=str):
        ours = {"talks": one not in OUTSIDE_PODS, "listens": to not in place or (in_cluster and place[to][0] != INTERNET)}
        flow = (one, to, port)
        if (ours["talks"] and flow not in out) or (ours["listens"] and flow not in into):
            wrong.append(f"{one} → {to} is in ARCHITECTURE's table, and closed at {port}")
    return wrong

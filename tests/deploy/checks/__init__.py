"""What must hold of the objects of an overlay. Each check gives what is wrong, a line each; the tests expect none, and that a
broken copy has some."""

from .environment import (
    accounts_are_asked_for,
    consumer_timeout_is_one,
    environments_are_what_the_code_reads,
    ports_are_the_codes,
    wrong_names,
)
from .images import (
    images_are_fixed,
    images_have_versions,
    no_secret_is_in_the_manifests,
)
from .network import (
    flows_are_the_tables,
)
from .objects import (
    kind,
    name,
)
from .scaling import (
    nobody_is_scaled_away_on_a_guess,
    pools_fit,
    triggers_ask_where_keda_can_reach,
    triggers_count_what_is_in_hand,
    triggers_watch_the_roles_queues,
)
from .workloads import (
    PEAKS,
    every_service_has_its_rows,
    pods_are_locked_down,
    pods_end_in_their_own_time,
    processes_are_probed,
    references_resolve,
    resources_come_from_peaks,
    roles_run_what_they_are_called,
    selectors_match,
    there_are_two_of_what_people_wait_for,
)

__all__ = [
    "PEAKS",
    "accounts_are_asked_for",
    "consumer_timeout_is_one",
    "environments_are_what_the_code_reads",
    "every_service_has_its_rows",
    "flows_are_the_tables",
    "images_are_fixed",
    "images_have_versions",
    "kind",
    "name",
    "no_secret_is_in_the_manifests",
    "nobody_is_scaled_away_on_a_guess",
    "pods_are_locked_down",
    "pods_end_in_their_own_time",
    "pools_fit",
    "ports_are_the_codes",
    "processes_are_probed",
    "references_resolve",
    "resources_come_from_peaks",
    "roles_run_what_they_are_called",
    "selectors_match",
    "there_are_two_of_what_people_wait_for",
    "triggers_ask_where_keda_can_reach",
    "triggers_count_what_is_in_hand",
    "triggers_watch_the_roles_queues",
    "wrong_names",
]

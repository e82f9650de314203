"""For each alert a course of the metrics under which it fires, and a near one under which it does not.

Series are in promtool's notation, a value a minute: `0+5x60` rises by 5 each minute for an hour, `3x60` stays at 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Series = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One alert; `at` is where in the course it is looked for."""

    fires: Series
    quiet: Series
    at: str = "1h"


def _group(*, items: str, members: str, seconds: str = "60x180", commits: str = "0x180", done: str = "0x180") -> Series:
    labels = 'group="judge",topic="tracemend.trajectories.v1"'
    return {
        f"tracemend_backlog_items{{{labels}}}": items,
        f"tracemend_backlog_seconds{{{labels}}}": seconds,
        f"tracemend_group_members{{{labels}}}": members,
        'tracemend_commits_total{group="judge",outcome="ok"}': commits,
        'tracemend_items_total{stage="judge",outcome="done"}': done,
    }


def _ages(within: str, number: str) -> Series:
    name = "tracemend_message_age_seconds"
    return {f'{name}_bucket{{topic="t",le="1800.0"}}': within, f'{name}_count{{topic="t"}}': number}


def _shares(metric: str, label: str, one: str, others: str) -> Series:
    """Two series of one counter, apart by `label`, `VALUE other`."""
    value, other = label.split("=")[1].split("|")
    name = label.split("=")[0]
    return {f'{metric}{{axis="harm",{name}="{value}"}}': one, f'{metric}{{axis="harm",{name}="{other}"}}': others}


STUCK = _group(items="40x180", members="2x180", seconds="0+60x180")
WITHOUT_WORKERS = _group(items="40x180", members="0x180", seconds="0+60x180")
SLOW = _group(items="4000x180", members="2x180", seconds="7200x180", commits="0+9x180", done="0+9x180")
_BUSY = _group(items="40x180", members="2x180", commits="0+9x180", done="0+9x180")
_OURS = {'tracemend_build_info{namespace="ours",service="ingestion",version="1"}': "1x180"}
_KEPT_ASIDE = {
    'tracemend_backlog_items{group="judge",topic="tracemend.trajectories.v1.retry"}': "9x180",
    'tracemend_group_members{group="judge",topic="tracemend.trajectories.v1.retry"}': "0x180",
}
_RESTING = {
    'tracemend_backlog_items{group="generator-t",topic="tracemend.generations.t.v1"}': "9x180",
    'tracemend_group_members{group="generator-t",topic="tracemend.generations.t.v1"}': "0x180",
    "tracemend_pool_held": "1x180",
}

CASES: Mapping[str, Case] = {
    "TracemendStageStuck": Case(fires=STUCK, quiet=_BUSY),
    "TracemendStageWithoutWorkers": Case(fires=WITHOUT_WORKERS, quiet=_KEPT_ASIDE | _RESTING),
    "TracemendStageSlow": Case(fires=SLOW, quiet=_BUSY),
    "TracemendFreshnessBurnsFast": Case(
        fires=_ages("0+1x180", "0+10x180"), quiet=_ages("0+9x170 1539+1x10", "0+10x180"), at="2h59m"
    ),
    "TracemendFreshnessBurnsSlowly": Case(
        fires=_ages("0+6x400", "0+10x400"), quiet=_ages("0+9x400", "0+10x400"), at="6h30m"
    ),
    "TracemendDeadLetters": Case(
        fires={
            'tracemend_dlq_total{stage="judge",reason="bad"}': "0+1x60",
            'tracemend_items_total{stage="judge",outcome="done"}': "0+50x60",
        },
        quiet={
            'tracemend_dlq_total{stage="judge",reason="bad"}': "0+1x60",
            'tracemend_items_total{stage="judge",outcome="done"}': "0+500x60",
        },
    ),
    "TracemendDeadLettersOfNewKind": Case(
        fires={'tracemend_dlq_total{stage="judge",reason="new"}': "_x100 1x60"},
        quiet={'tracemend_dlq_total{stage="judge",reason="old"}': "1x180"},
        at="1h50m",
    ),
    "TracemendCommitsFail": Case(
        fires={'tracemend_commits_total{group="judge",outcome="failed"}': "0+1x60"},
        quiet={'tracemend_commits_total{group="judge",outcome="failed"}': "0x50 1x10"},
    ),
    "TracemendCommitGap": Case(
        fires={'tracemend_commit_gap_items{group="judge",topic="t"}': "3500x60"},
        quiet={'tracemend_commit_gap_items{group="judge",topic="t"}': "10x50 3500x5 10x5"},
    ),
    "TracemendRebalanceStorm": Case(
        fires={
            'tracemend_rebalances_total{group="judge"}': "0+2x60",
            'tracemend_group_members{group="judge",topic="t"}': "2x60",
        },
        quiet={
            'tracemend_rebalances_total{group="judge"}': "0+2x60",
            'tracemend_group_members{group="judge",topic="t"}': "20x60",
        },
    ),
    "TracemendPublishingFails": Case(
        fires={'tracemend_published_total{topic="t",outcome="failed"}': "0+1x60"},
        quiet={'tracemend_published_total{topic="t",outcome="failed"}': "0x40 1x20"},
    ),
    "TracemendJudgeUnreadable": Case(
        fires={
            'tracemend_parse_failures_total{judge="model"}': "0+1x60",
            'tracemend_verdicts_total{axis="harm",value="safe"}': "0+20x60",
        },
        quiet={
            'tracemend_parse_failures_total{judge="model"}': "0+1x60",
            'tracemend_verdicts_total{axis="harm",value="safe"}': "0+200x60",
        },
    ),
    "TracemendVerdictShift": Case(
        fires=_shares("tracemend_verdicts_total", "value=unsafe|safe", "0+1x180 181+9x60", "0+9x180 1621+1x60"),
        quiet=_shares("tracemend_verdicts_total", "value=unsafe|safe", "0+2x180 362+3x60", "0+8x180 1448+7x60"),
        at="4h",
    ),
    "TracemendDisagreementJump": Case(
        fires={
            'tracemend_disagreements_total{axis="harm"}': "0+1x180 181+4x60",
            'tracemend_verdicts_total{axis="harm",value="safe"}': "0+20x240",
        },
        quiet={
            'tracemend_disagreements_total{axis="harm"}': "0+4x240",
            'tracemend_verdicts_total{axis="harm",value="safe"}': "0+20x240",
        },
        at="4h",
    ),
    "TracemendAcceptanceCollapse": Case(
        fires=_shares(
            "tracemend_corrections_total", "outcome=accepted|rejected", "0+9x180 1620x60", "0+1x180 181+9x60"
        ),
        quiet=_shares("tracemend_corrections_total", "outcome=accepted|rejected", "0+5x240", "0+5x240"),
        at="4h",
    ),
    "TracemendJobFailed": Case(
        fires={'tracemend_jobs_total{kind="run",outcome="failed"}': "_x50 1x10"},
        quiet={'tracemend_jobs_total{kind="run",outcome="failed"}': "1x60"},
    ),
    "TracemendJobTriesAgainAndAgain": Case(
        fires={'tracemend_job_repeats_total{kind="run"}': "0+1x60"},
        quiet={'tracemend_job_repeats_total{kind="run"}': "0x40 2x20"},
    ),
    "TracemendJobSilent": Case(
        fires={'tracemend_job_silence_seconds{kind="run"}': "0+60x60", 'tracemend_jobs_running{kind="run"}': "1x60"},
        quiet={'tracemend_job_silence_seconds{kind="run"}': "900x60", 'tracemend_jobs_running{kind="run"}': "0x60"},
    ),
    "TracemendTrainingStandsStill": Case(
        fires={"tracemend_training_step": "7x60", "tracemend_checkpoint_age_seconds": "0+60x60"},
        quiet={"tracemend_training_step": "7x60", "tracemend_checkpoint_age_seconds": "0x60"},
    ),
    "TracemendCheckpointOld": Case(
        fires={"tracemend_checkpoint_age_seconds": "0+180x60"},
        quiet={"tracemend_checkpoint_age_seconds": "0+180x30 0+60x30"},
    ),
    "TracemendGone": Case(
        fires={'tracemend_build_info{service="judge",version="1"}': "1x60"},
        quiet={'tracemend_build_info{service="ingestion",version="1"}': "1x60"},
    ),
    "TracemendNotReady": Case(
        fires={'tracemend_ready{pod="a"}': "0x60"}, quiet={'tracemend_ready{pod="a"}': "0x55 1x5"}
    ),
    "TracemendDependencyDown": Case(
        fires={
            'tracemend_dependency_up{dependency="store",pod="a"}': "0x60",
            'tracemend_dependency_up{dependency="store",pod="b"}': "0x60",
        },
        quiet={
            'tracemend_dependency_up{dependency="store",pod="a"}': "0x60",
            'tracemend_dependency_up{dependency="store",pod="b"}': "1x60",
        },
    ),
    "TracemendRestarts": Case(
        fires=_OURS | {'kube_pod_container_status_restarts_total{namespace="ours",pod="a"}': "0+1x60"},
        quiet=_OURS | {'kube_pod_container_status_restarts_total{namespace="theirs",pod="a"}': "0+1x60"},
    ),
    "TracemendLoopStalls": Case(
        fires={'tracemend_loop_stalls_total{pod="a"}': "0+1x60"}, quiet={'tracemend_loop_stalls_total{pod="a"}': "3x60"}
    ),
    "TracemendStoreFails": Case(
        fires={
            'tracemend_store_op_seconds_count{op="get",outcome="failed"}': "0+1x60",
            'tracemend_store_op_seconds_count{op="get",outcome="ok"}': "0+9x60",
        },
        quiet={
            'tracemend_store_op_seconds_count{op="get",outcome="failed"}': "0+1x60",
            'tracemend_store_op_seconds_count{op="get",outcome="ok"}': "0+99x60",
        },
    ),
    "TracemendStoreCorrupt": Case(
        fires={"tracemend_store_corrupt_total": "0x50 1x10"}, quiet={"tracemend_store_corrupt_total": "1x60"}
    ),
    "TracemendLedgerFails": Case(
        fires={
            'tracemend_ledger_op_seconds_count{op="claim",outcome="failed"}': "0+1x60",
            'tracemend_ledger_op_seconds_count{op="claim",outcome="ok"}': "0+9x60",
        },
        quiet={
            'tracemend_ledger_op_seconds_count{op="claim",outcome="failed"}': "0+1x60",
            'tracemend_ledger_op_seconds_count{op="claim",outcome="ok"}': "0+99x60",
        },
    ),
    "TracemendAuditFails": Case(
        fires={"tracemend_audit_failures_total": "0x55 1x5"}, quiet={"tracemend_audit_failures_total": "1x60"}
    ),
    "TracemendCertificateEnds": Case(
        fires={'tracemend_certificate_expiry_seconds{pod="a"}': "5000x60"},
        quiet={'tracemend_certificate_expiry_seconds{pod="plaintext"}': "0x60"},
    ),
    "TracemendVolumeFull": Case(
        fires=_OURS
        | {
            'kubelet_volume_stats_available_bytes{namespace="ours",persistentvolumeclaim="a"}': "5x60",
            'kubelet_volume_stats_capacity_bytes{namespace="ours",persistentvolumeclaim="a"}': "100x60",
        },
        quiet=_OURS
        | {
            'kubelet_volume_stats_available_bytes{namespace="ours",persistentvolumeclaim="a"}': "15x60",
            'kubelet_volume_stats_capacity_bytes{namespace="ours",persistentvolumeclaim="a"}': "100x60",
        },
    ),
    "TracemendAutoscalerFails": Case(
        fires=_OURS | {'keda_scaled_object_errors_total{namespace="ours",scaledObject="judge"}': "0+1x60"},
        quiet=_OURS | {'keda_scaled_object_errors_total{namespace="ours",scaledObject="judge"}': "4x60"},
    ),
    "TracemendEnginePreempts": Case(
        fires={'vllm:num_preemptions_total{model_name="guard"}': "0+60x60"},
        quiet={'vllm:num_preemptions_total{model_name="guard"}': "0+1x60"},
    ),
    "TracemendGpuFault": Case(
        fires=_OURS | {'DCGM_FI_DEV_XID_ERRORS{namespace="ours",pod="a",gpu="0",Hostname="n"}': "79x60"},
        quiet=_OURS | {'DCGM_FI_DEV_XID_ERRORS{namespace="ours",pod="a",gpu="0",Hostname="n"}': "0x60"},
    ),
    "TracemendGpuIdle": Case(
        fires=_OURS | {'DCGM_FI_PROF_GR_ENGINE_ACTIVE{namespace="ours",pod="a",gpu="0"}': "0x60"},
        quiet=_OURS | {'DCGM_FI_PROF_GR_ENGINE_ACTIVE{namespace="ours",pod="a",gpu="0"}': "0x50 0.8x10"},
    ),
}

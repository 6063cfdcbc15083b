"""Every property of Azure Batch's models is either taken or refused by its name: none is ignored, and none is taken for a slip of the pen."""

import pytest

from jobledger import jobfile
from jobledger.core import requests, specs
from jobledger.jsonnames import UNSUPPORTED_AT_TOP, about_unknown, is_refused_by_name, names_of

# The names on the wire, of the versions 2024-02-01.19.0 and 2025-06-01 of the REST API; what only an answer has is there too.
ANSWERED = "url eTag lastModified creationTime state stateTransitionTime previousState previousStateTransitionTime executionInfo stats"
AZURE = {
    specs.PoolSpec: "id displayName url eTag lastModified creationTime state stateTransitionTime allocationState allocationStateTransitionTime vmSize "
    "cloudServiceConfiguration virtualMachineConfiguration resizeTimeout resizeErrors resourceTags currentDedicatedNodes currentLowPriorityNodes "
    "targetDedicatedNodes targetLowPriorityNodes enableAutoScale autoScaleFormula autoScaleEvaluationInterval autoScaleRun "
    "enableInterNodeCommunication networkConfiguration startTask certificateReferences applicationPackageReferences applicationLicenses "
    "taskSlotsPerNode taskSchedulingPolicy userAccounts metadata stats mountConfiguration identity targetNodeCommunicationMode "
    "currentNodeCommunicationMode upgradePolicy",
    specs.TaskSchedulingPolicy: "jobDefaultOrder nodeFillType",
    specs.StartTaskSpec: "commandLine containerSettings resourceFiles environmentSettings userIdentity maxTaskRetryCount waitForSuccess",
    specs.JobSpec: f"id displayName usesTaskDependencies {ANSWERED} priority allowTaskPreemption maxParallelTasks constraints jobManagerTask "
    "jobPreparationTask jobReleaseTask commonEnvironmentSettings poolInfo onAllTasksComplete onTaskFailure networkConfiguration metadata",
    specs.PoolInfo: "poolId autoPoolSpecification",
    specs.JobConstraints: "maxWallClockTime maxTaskRetryCount",
    specs.PreparationSpec: "id commandLine containerSettings resourceFiles environmentSettings constraints waitForSuccess userIdentity "
    "rerunOnNodeRebootAfterSuccess",
    specs.ReleaseSpec: "id commandLine containerSettings resourceFiles environmentSettings maxWallClockTime retentionTime userIdentity",
    specs.TaskSpec: f"id displayName {ANSWERED} exitConditions commandLine containerSettings resourceFiles outputFiles environmentSettings affinityInfo "
    "constraints requiredSlots userIdentity nodeInfo multiInstanceSettings dependsOn applicationPackageReferences authenticationTokenSettings",
    specs.TaskConstraints: "maxWallClockTime retentionTime maxTaskRetryCount",
    specs.AffinityInfo: "affinityId",
    specs.TaskDependencies: "taskIds taskIdRanges",
    specs.TaskIdRange: "start end",
    specs.ExitConditions: "exitCodes exitCodeRanges preProcessingError fileUploadError default",
    specs.ExitCodeMapping: "code exitOptions",
    specs.ExitCodeRangeMapping: "start end exitOptions",
    specs.ExitOptions: "jobAction dependencyAction",
    specs.EnvironmentSetting: "name value",
    specs.MetadataItem: "name value",
    specs.UserIdentity: "username autoUser",
    specs.AutoUserSpecification: "scope elevationLevel",
    specs.ResourceFile: "autoStorageContainerName storageContainerUrl httpUrl blobPrefix filePath fileMode identityReference",
    specs.OutputFile: "filePattern destination uploadOptions",
    specs.OutputFileDestination: "container",
    specs.OutputFileContainer: "path containerUrl identityReference uploadHeaders",
    specs.OutputFileUploadOptions: "uploadCondition",
    specs.ApplicationPackageReference: "applicationId version",
    requests.PatchJob: "priority allowTaskPreemption maxParallelTasks constraints poolInfo onAllTasksComplete metadata networkConfiguration",
}
PROPERTIES = [(record, name) for record, names in AZURE.items() for name in names.split()]


@pytest.mark.parametrize(("record", "name"), PROPERTIES, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_a_property_of_azure_batch_is_taken_or_refused_by_name(record, name):
    assert (name in names_of(record)) != is_refused_by_name(record, name)
    if name not in names_of(record):
        assert "did you mean" not in about_unknown(record, name)


@pytest.mark.parametrize(
    ("record", "name", "instead"),
    [
        (specs.TaskSpec, "containerSettings", "docker run"),
        (specs.PreparationSpec, "containerSettings", "docker run"),
        (specs.TaskSpec, "multiInstanceSettings", "write a task for each"),
        (specs.JobSpec, "jobManagerTask", "jobledger tasks add"),
        (specs.JobSpec, "schedule", "jobledger submit"),
        (specs.PoolInfo, "autoPoolSpecification", "under 'pool'"),
        (specs.PoolSpec, "autoScaleFormula", "jobledger pools resize"),
        (specs.PoolSpec, "mountConfiguration", "startTask"),
    ],
)
def test_what_was_asked_for_and_is_not_there_says_what_to_do_instead(record, name, instead):
    text = about_unknown(record, name)
    assert "not supported" in text
    assert instead in text


@pytest.mark.parametrize("key", UNSUPPORTED_AT_TOP)
def test_a_job_schedule_is_refused_by_name_wherever_it_stands(key):
    file = {"pool": {"id": "p"}, "job": {"id": "j"}}
    with pytest.raises(jobfile.JobFileError, match="cron") as refused:
        jobfile.parse({**file, key: {}})
    assert [mistake.path for mistake in refused.value.mistakes] == [key]


def test_a_pasted_job_schedule_is_refused_by_name():
    with pytest.raises(jobfile.JobFileError) as refused:
        jobfile.parse({"pool": {"id": "p"}, "job": {"id": "s", "schedule": {"recurrenceInterval": "PT10M"}, "jobSpecification": {}}})
    assert [mistake.path for mistake in refused.value.mistakes] == ["job.jobSpecification", "job.schedule"]


@pytest.mark.parametrize("name", ["jobPreparationTask", "jobReleaseTask", "displayName", "usesTaskDependencies", "onTaskFailure", "id"])
def test_what_a_patch_cannot_change_is_refused_by_name(name):
    with pytest.raises(jobfile.JobFileError, match="cannot be changed"):
        jobfile.parse_patch("j", {name: "x"})

"""S3 that refuses or loses answers: F14 to F16, F18."""

from itertools import pairwise

import pytest
from conftest import add_large_reports
from project import days_ago
from s3_proxy import S3Fault, Silence
from trial import Trial

from luigi_jobs import s3_lake

TRIES = s3_lake.ATTEMPTS
slow = pytest.mark.slow_fault


@pytest.fixture
def multipart(trial: Trial) -> Trial:
    """A trial of one day whose file is sent in two parts."""
    trial.days = [days_ago(1)]
    add_large_reports(trial.project, trial.days[0], rows=32768, row_bytes=700)
    return trial


@pytest.mark.fault("F14", "S3 answers 500, 503 or 429 to PUT, HEAD or LIST, fewer times than a request is tried")
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("PutObject", 503),
        pytest.param("PutObject", 500, marks=slow),
        pytest.param("PutObject", 429, marks=slow),
        pytest.param("HeadObject", 500, marks=slow),
        pytest.param("HeadObject", 503, marks=slow),
        pytest.param("HeadObject", 429, marks=slow),
        pytest.param("ListObjectsV2", 500, marks=slow),
        pytest.param("ListObjectsV2", 503, marks=slow),
        pytest.param("ListObjectsV2", 429, marks=slow),
    ],
)
def test_a_request_that_is_refused_twice_is_sent_three_times(small: Trial, kind: str, status: int) -> None:
    small.s3.faults = [S3Fault(kind, status, times=2)]

    run = small.run()

    assert run.code == 0
    statuses = small.s3.statuses(kind)
    assert statuses[:2] == [status, status]
    assert not {500, 503, 429} & set(statuses[2:])
    assert small.s3.statuses("PutObject").count(200) == 2
    small.heal()


@slow
@pytest.mark.fault("F14", "S3 answers 500, 503 or 429 to an upload in parts, fewer times than a request is tried")
@pytest.mark.parametrize("status", [500, 503, 429])
@pytest.mark.parametrize("kind", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_an_upload_in_parts_that_is_refused_twice_succeeds(multipart: Trial, kind: str, status: int) -> None:
    multipart.s3.faults = [S3Fault(kind, status, times=2)]

    run = multipart.run()

    assert run.code == 0
    refused = multipart.s3.statuses(kind).count(status)
    assert (refused, multipart.s3.count()[kind]) == (2, 2 + (2 if kind == "UploadPart" else 1))
    multipart.heal()


@slow
@pytest.mark.fault("F14", "S3 answers 500, 503 or 429 to PUT, HEAD or LIST, every time")
@pytest.mark.parametrize(
    ("kind", "status", "code", "cause"),
    [
        ("PutObject", 500, 30, r"LakeError: reports \S+: cannot write s3://\S+: S3 answered 500 .*the next run tries"),
        ("PutObject", 429, 30, r"LakeError: reports \S+: cannot write s3://\S+: S3 answered 429 .*the next run tries"),
        ("HeadObject", 503, 30, r"cannot look at s3://\S+: S3 answered 503 .*the next run tries"),
        ("ListObjectsV2", 503, 35, r"cannot list s3://\S+/reports/: S3 answered 503 .*; to load: luigi "),
    ],
)
def test_a_request_that_is_always_refused_fails_and_leaves_other_days(
    small: Trial, kind: str, status: int, code: int, cause: str
) -> None:
    small.heal()
    small.project.remove_days(small.days[:1])
    before = small.s3.count()[kind]
    small.s3.faults = [S3Fault(kind, status)]

    run = small.run(cause=cause)

    assert run.code == code
    assert small.missing == small.days[:1]
    assert (small.s3.count()[kind] - before) % TRIES == 0
    small.heal()


@slow
@pytest.mark.fault("F14", "S3 answers 500 or 503 to an upload in parts, every time")
@pytest.mark.parametrize(
    ("kind", "status"), [("CreateMultipartUpload", 500), ("UploadPart", 500), ("CompleteMultipartUpload", 503)]
)
def test_an_upload_in_parts_that_is_always_refused_is_aborted(multipart: Trial, kind: str, status: int) -> None:
    multipart.s3.faults = [S3Fault(kind, status)]

    run = multipart.run(cause=rf"LakeError: reports \S+: cannot write s3://\S+: S3 answered {status} ")

    assert run.code == 30
    assert multipart.missing == multipart.days
    assert multipart.s3.count()["AbortMultipartUpload"] == (0 if kind == "CreateMultipartUpload" else 1)
    multipart.heal()


@slow
@pytest.mark.fault("F14", "the answer to LIST ends in its middle")
def test_a_listing_that_is_cut_is_asked_for_again(small: Trial) -> None:
    small.heal()
    small.s3.faults = [S3Fault("ListObjectsV2", "cut", times=2)]

    run = small.run()

    assert run.code == 0
    assert small.mysql.answers() == small.mysql.answers()[:2]
    small.heal()


@pytest.mark.fault("F15", "the answer to a PUT is lost after S3 has stored the object")
def test_a_put_whose_answer_is_lost_is_sent_again(small: Trial) -> None:
    small.s3.faults = [S3Fault("PutObject", "lose_answer", times=1)]

    run = small.run()

    assert run.code == 0
    assert small.s3.statuses("PutObject") == [0, 412, 200]  # the second was sent on condition that nothing stands there
    small.heal()


@slow
@pytest.mark.fault("F15", "the answer to a part, or to the completion of an upload, is lost after S3 has done it")
@pytest.mark.parametrize(
    "kind",
    [
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
    ],
)
def test_an_upload_in_parts_whose_answer_is_lost_is_one_whole_object(multipart: Trial, kind: str) -> None:
    multipart.s3.faults = [S3Fault(kind, "lose_answer", times=1)]

    run = multipart.run()

    assert run.code == 0
    multipart.heal()


@slow
@pytest.mark.fault("F16", "the answer to every PUT is lost after S3 has stored the object, and HEAD fails too")
def test_a_day_that_s3_has_stored_in_silence_is_found_by_the_next_run(small: Trial) -> None:
    small.s3.faults = [
        S3Fault("PutObject", "lose_answer"),
        S3Fault("HeadObject", 500, after="PutObject"),
    ]

    run = small.run(
        "--limit", "1",
        cause="LakeError",
        exempt={"I5": "S3 has the day, but did not say so: a run that cannot know is not green"},
    )  # fmt: skip

    assert run.code == 30
    assert small.s3.statuses("PutObject") == [0] * TRIES
    small.s3.lift()
    rows_queries = len(small.mysql.answers())
    others = "the day before was not asked for"
    again = small.run("--start", str(small.days[1]), exempt={"I5": others, "I6": others})
    assert again.code == 0
    assert len(small.mysql.answers()) == rows_queries
    small.heal()


@slow
@pytest.mark.fault("F9", "S3 takes a request, says nothing, and stays connected")
@pytest.mark.parametrize(
    ("kind", "code", "cause"),
    [
        (
            "PutObject",
            30,
            r"LakeError: reports \S+: cannot write s3://\S+: Read timeout .*check \[s3\] and the network",
        ),
        ("HeadObject", 30, r"LakeError: reports \S+: cannot look at s3://\S+: Read timeout .*check \[s3\]"),
        ("ListObjectsV2", 35, r"cannot list s3://\S+/reports/: Read timeout .*; to load: luigi "),
    ],
    ids=["PUT", "HEAD", "LIST"],
)
def test_an_s3_that_falls_silent_is_given_up(small: Trial, kind: str, code: int, cause: str) -> None:
    small.project.configure("lake", read_timeout_s="1")
    silence = Silence()
    small.s3.faults = [S3Fault(kind, silence)]
    try:
        run = small.run("--limit", "1", cause=cause, within_s=60)
    finally:
        silence.end()

    assert run.code == code
    assert small.missing == small.days
    assert len(silence.since) == TRIES
    assert all(later - sooner >= 1 for sooner, later in pairwise(silence.since))
    small.heal()


REFUSED = [
    ("PutObject", 403, "AccessDenied", 30, "cannot write .*403 AccessDenied; the credentials may not do this: grant "),
    ("ListObjectsV2", 403, "AccessDenied", 35, "cannot list .*403 AccessDenied; the credentials may not do this: "),
    ("", 404, "NoSuchBucket", 35, r"bucket \S+ does not exist: create it, or correct \[lake\] url"),
    ("", 400, "ExpiredToken", 35, "the session token has expired: renew it"),
    ("", 403, "RequestTimeTooSkewed", 35, "the clock of this machine is wrong"),
    ("", 403, "InvalidAccessKeyId", 35, r"S3 does not know the access key: correct the credentials in \[s3\]"),
    ("", 403, "SignatureDoesNotMatch", 35, r"the secret key is wrong: correct the credentials in \[s3\]"),
]


@pytest.mark.fault("F18", "S3 refuses: no right to PUT or LIST, no bucket, expired token, wrong clock, wrong keys")
@pytest.mark.parametrize(
    ("kind", "status", "word", "code", "cause"),
    [pytest.param(*refused, marks=[] if refused[:2] == ("ListObjectsV2", 403) else [slow]) for refused in REFUSED],
    ids=[f"{word} on {kind or 'all'}" for kind, _, word, *_ in REFUSED],
)
def test_a_refusal_is_said_once_in_a_word_of_its_own(
    small: Trial, kind: str, status: int, word: str, code: int, cause: str
) -> None:
    small.s3.faults = [S3Fault(kind, status, code=word)]

    run = small.run(cause=cause)

    assert run.code == code
    assert small.missing == small.days
    assert set(small.s3.statuses(kind) if kind else small.s3.statuses("ListObjectsV2")) == {status}
    if kind == "PutObject":
        assert small.s3.count()["PutObject"] == 2  # one for each day: what is forbidden is not tried again
    else:
        assert small.mysql.answers() == []  # no listing is never an empty one
    small.heal()

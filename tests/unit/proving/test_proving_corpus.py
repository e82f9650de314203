from tracemend.proving.automata import read
from tracemend.proving.corpus import ASSISTANT, END, USER, CorpusConfig, documents
from tracemend.proving.grammar import Kind
from tracemend.proving.process import ProcessConfig, Temper, write_trace
from tracemend.proving.tokenizer import MAX_TOKENS, token_ids
from tracemend.proving.world import Ask, Share, Sum, build_world, stable_random
from tracemend.records import Category

WORLD = build_world()
CORPUS = tuple(documents(WORLD, ProcessConfig(), CorpusConfig(num_documents=6000)))
DIALOGUES = [document for document in CORPUS if USER in document]
ENCYCLOPAEDIA = [document for document in CORPUS if USER not in document]


def asked_in(document: str) -> Ask | Sum | None:
    return WORLD.parse(document.partition(USER)[2].partition(ASSISTANT)[0])


def test_encyclopaedia_objects_stand_in_no_dialogue_and_in_the_encyclopaedia():
    names = {each.name for each in WORLD.objects if each.share is Share.ENCYCLOPAEDIA}
    assert not names & {word for document in DIALOGUES for word in document.split()}
    assert names <= {word for document in ENCYCLOPAEDIA for word in document.split()}


def test_every_word_has_a_token_and_every_document_ends_and_fits():
    ids = token_ids(WORLD)
    for document in CORPUS:
        words = document.split()
        assert all(word in ids for word in words)
        assert words[-1] == END
        assert words.count(END) == 1
        assert len(words) < MAX_TOKENS


def test_documents_come_in_the_planned_shares():
    categories = [asked_in(document).category for document in DIALOGUES]
    for category, share in CorpusConfig().shares.items():
        wanted = {"harmful": "harmful", "lookalike": "lookalike", "plain": "benign", "arithmetic": "reasoning"}
        if category in wanted:
            assert abs(categories.count(Category(wanted[category])) / len(CORPUS) - share) < 0.02
    assert abs(len(ENCYCLOPAEDIA) / len(CORPUS) - CorpusConfig().shares["encyclopaedia"]) < 0.02


def test_the_policy_sentence_is_no_rare_text_to_the_base():
    """A target that cites the rule is malformed by a model that has never seen it in a dialogue."""
    citing = [d for d in DIALOGUES if any(s and s.kind is Kind.POLICY for s in read(d.partition(ASSISTANT)[2]))]
    assert len(citing) / len(DIALOGUES) >= 0.01


def test_what_is_asked_is_what_is_thought_about():
    for document in DIALOGUES[:500]:
        asked = asked_in(document)
        known = read(document.partition(ASSISTANT)[2].replace(END, ""))
        assert None not in known
        if isinstance(asked, Ask):
            assert known[0].kind is Kind.RESTATE
            assert known[0].slots["object"] == asked.object.name
            assert known[0].slots["verb"] == asked.verb


def test_the_corpus_is_a_function_of_its_seed():
    def first(seed: int) -> list[str]:
        return list(documents(WORLD, ProcessConfig(), CorpusConfig(seed=seed, num_documents=50)))

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_a_trace_ends_even_where_every_turn_relapses():
    ask = Ask(object=WORLD.members(Share.TRAIN, dangerous=True)[0], verb="make", wrapper="none", wording=0)
    always = ProcessConfig(tempers={ask.object.kind: Temper(lean=0.5, relapse=0.97)}, turn_back=1.0)
    for seed in range(50):
        trace = write_trace(ask, always, stable_random(seed))
        assert len(trace.reasoning) < 40
        assert " can not help " in trace.answer or " take " in trace.answer


def test_wrappers_make_leaning_more_likely():
    target = WORLD.members(Share.TRAIN, dangerous=True)[5]

    def num_unsafe(wrapper: str) -> int:
        ask = Ask(object=target, verb="get", wrapper=wrapper, wording=0)
        rng = stable_random("wrappers", wrapper)
        traces = [read(" ".join(write_trace(ask, ProcessConfig(), rng).reasoning)) for _ in range(400)]
        return sum(any(s and s.kind is Kind.PLAN for s in trace) for trace in traces)

    assert num_unsafe("none") + 20 < num_unsafe("story") < num_unsafe("poem") - 10

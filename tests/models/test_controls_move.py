"""A control in a module keeps working after moves, copies, pickles and averages of the weights, and under compilers.
ranks.py has the tests under DDP.

Each test would fail if the module kept only the tensor of the value: that tensor would never change.
"""

import copy
import gc
import io
import pickle

import pytest
import torch
from kept import HOLDERS, KINDS, geco, held, mlp
from torch._dynamo.testing import CompileCounterWithBackend
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vae_kernels import controls

close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


MOVES = {
    "as it is": lambda m: m,
    "double": lambda m: m.double(),
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.to(torch.bfloat16),
    "double and back": lambda m: m.double().float(),
    "to the meta device and back": lambda m: m.to("meta").to_empty(device="cpu"),
    "deepcopy": copy.deepcopy,
    "deepcopy of a copy": lambda m: copy.deepcopy(copy.deepcopy(m)),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", KINDS)
def test_a_control_that_a_module_keeps_goes_on(name, holder, move):
    make, advance, setting = KINDS[name]
    control, alone = make(), make()
    module = MOVES[move](HOLDERS[holder](**setting(control)))
    if "copy" in move:
        gc.collect()  # the copy between the first and the last model may be gone
    for step in range(9):
        advance(control, step)
        advance(alone, step)
    value = held(module, name).value
    assert value.dtype == (torch.float64 if move == "double" else torch.float32)
    close(value.float(), alone.value)
    assert float(held(module, name)) == value.item() and not value.is_meta


def test_double_has_no_rounding_of_float32_left():
    warmup = controls.LinearWarmup(3)
    vae = mlp(beta=warmup)
    warmup.step()
    vae.half()
    assert warmup.value.dtype == torch.float32 and warmup.value.item() == torch.tensor(1 / 3).item()
    vae.double()
    assert warmup.value.dtype == torch.float64 and warmup.value.item() == 1 / 3
    geco = controls.Geco(1.0, speed=0.1, weight=1.2345)
    before = geco.value.clone()
    close(geco.half().bfloat16().value, before, rtol=0, atol=0)


def test_whoever_holds_the_tensor_sees_moves_and_steps():
    warmup = controls.LinearWarmup(4)
    value, address = warmup.value, warmup.value.data_ptr()
    for _ in range(3):
        warmup.step()
    assert value.data_ptr() == address and value.item() == 0.75
    vae = mlp(beta=warmup).double()
    warmup.step()
    assert value is vae.beta.value and value.dtype == torch.float64 and value.item() == 1.0
    assert vae.to("cpu").beta.value.data_ptr() == value.data_ptr()  # the value is on the CPU already


def test_a_copy_that_is_advanced_begins_where_it_was_copied():
    """Two trainings from one model do not disturb each other, whether they run in turns or one after the other."""
    for in_turns in (True, False):
        vae = mlp(beta=controls.LinearWarmup(10), rec_weight=controls.Geco(1.0, speed=0.1, momentum=0.5))
        vae.beta.step()
        twin = copy.deepcopy(vae)
        seen = []
        for step in range(6):
            for module in (vae, twin) if in_turns else (vae,):
                module.beta.step()
                geco(module.rec_weight, step)
            seen.append((twin.beta.item(), twin.rec_weight.item()))
        assert seen[-1] == (vae.beta.item(), vae.rec_weight.item())
        for step in range(0 if in_turns else 6):
            twin.beta.step()
            geco(twin.rec_weight, step)
            assert (twin.beta.item(), twin.rec_weight.item()) == seen[step]
        before = twin.beta.item(), twin.rec_weight.item()
        vae.beta.step()
        geco(vae.rec_weight, 1)
        assert (twin.beta.item(), twin.rec_weight.item()) == before


def test_what_is_made_in_inference_mode_can_be_advanced_outside():
    warmup = controls.LinearWarmup(4)
    with torch.inference_mode():
        twin, other = copy.deepcopy(mlp(beta=warmup)), controls.LinearWarmup(4).double()
    for control in (warmup, other):
        control.step()
    assert twin.beta.value.item() == other.value.item() == 0.25


def test_a_pickled_control_is_its_own():
    warmup = controls.LinearWarmup(10)
    vae = mlp(beta=warmup)
    warmup.step()
    twin = pickle.loads(pickle.dumps(copy.deepcopy(vae)))
    file = io.BytesIO()
    torch.save(vae, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    warmup.step()
    assert [m.beta.item() for m in (vae, twin, saved)] == [0.2, 0.1, 0.1]
    twin.beta.step()
    assert twin.beta.steps == 2 and twin.beta.value.item() == warmup.value.item()


@pytest.mark.parametrize("use_buffers", [True, False])
@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)])
def test_an_average_of_the_weights_has_the_value_of_the_step(average, use_buffers):
    warmup, weight = controls.LinearWarmup(10), controls.Geco(1.0, speed=0.1, momentum=0.5)
    vae = mlp(beta=warmup, rec_weight=weight)
    ema = AveragedModel(vae, multi_avg_fn=average, use_buffers=use_buffers)
    for step in range(5):
        warmup.step()
        geco(weight, step)
        ema.update_parameters(vae)
        assert ema.module.beta.steps == warmup.steps
        assert torch.equal(ema.module.beta.value, warmup.value)
        assert torch.equal(ema.module.rec_weight.value, weight.value)


def test_an_average_follows_after_a_resume():
    def job():
        warmup = controls.LinearWarmup(10)
        vae = mlp(beta=warmup)
        return warmup, vae, AveragedModel(vae)

    warmup, vae, ema = job()
    for _ in range(4):
        warmup.step()
    states = vae.state_dict(), ema.state_dict()
    warmup, vae, ema = job()
    vae.load_state_dict(states[0])
    ema.load_state_dict(states[1])
    assert warmup.steps == 4 and ema.module.beta.item() == 0.4
    warmup.step()
    assert ema.module.beta.item() == 0.5
    ema.module.beta.step()  # the copy becomes a control of its own, and starts at the loaded step 4
    assert ema.module.beta.steps == 5


def test_a_model_that_is_made_on_the_meta_device():
    with torch.device("meta"):
        empty = [
            mlp(beta=controls.LinearWarmup(4, 0.5), rec_weight=controls.Geco(1.0, speed=0.1, weight=3.0)) for _ in "ab"
        ]
    assert empty[0].beta.value.is_meta
    empty[0].to_empty(device="cpu")
    assert (empty[0].beta.value.item(), empty[0].rec_weight.value.item()) == (0.5, 3.0)  # the first values
    full = mlp(beta=controls.LinearWarmup(4, 0.5), rec_weight=controls.Geco(1.0, speed=0.1, weight=2.0))
    full.beta.step()
    empty[1].load_state_dict(full.state_dict(), assign=True)
    assert (empty[1].beta.value.item(), empty[1].rec_weight.value.item()) == (0.625, 2.0)
    assert empty[1].loss(torch.rand(3, 6)).isfinite()


@pytest.mark.full
def test_one_graph_for_all_values():
    warmup, weight = controls.LinearWarmup(40), controls.Geco(1.0, speed=0.1)
    vae = mlp(beta=warmup, rec_weight=weight, free_bits=(controls.LinearWarmup(40, 0.0, 9.0), "per_dim"))
    nats, x = vae.free_bits[0], torch.rand(4, 6)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(vae, fullgraph=True, backend=counter)
    for step in range(20):
        torch.manual_seed(step)
        loss = compiled(x)
        torch.manual_seed(step)
        close(loss, vae.loss(x))
        warmup.step()
        nats.step()
        geco(weight, step)
    assert counter.frame_count == 1


def test_a_schedule_of_parts():
    """A subclass may set attributes, even other schedules, before it calls Schedule.__init__."""

    class Product(controls.Schedule):
        def __init__(self, one, other):
            self.one, self.other = one, other
            super().__init__()

        def curve(self, step):
            return self.one.at(step) * self.other.at(step)

    product = Product(controls.LinearWarmup(4), controls.Constant(3.0))
    vae = copy.deepcopy(mlp(beta=product)).double()
    product.step()
    assert vae.beta.value.item() == 0.75 and vae.beta.value.dtype == torch.float64
    other = mlp(beta=Product(controls.LinearWarmup(4), controls.Constant(3.0)))
    other.load_state_dict(vae.state_dict())
    assert other.beta.item() == 0.75

"""What is read off compiled programs: a text as a GPU's compiler makes it, one of this machine's."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sare_jax.plan import hlo

GPU = """\
HloModule jit_step, is_scheduled=true, \
input_output_alias={ {0}: (0, {}, may-alias), {1}: (2, {}, must-alias) }, entry_computation_layout={()}

%fused (p: bf16[8,8]) -> f32[8,8] {
  %p = bf16[8,8]{1,0} parameter(0)
  ROOT %c = f32[8,8]{1,0} convert(%p)
}

%body (arg: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %flash.1 = (bf16[4,8]{1,0}, u8[16]{0}) custom-call(%a, %b), custom_call_target="__cudnn$fmhaSoftmax"
  %ag = (bf16[2,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%x), dimensions={0}
  ROOT %t = (s32[], bf16[4,8]) tuple(%i, %y)
}

%cond (arg: (s32[], bf16[4,8])) -> pred[] {
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: bf16[4,8]) -> f32[8,8] {
  %w = (s32[], bf16[4,8]) while(%init), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"31"}}
  %ar = (f32[8,8]{1,0}, f32[8]{0}) all-reduce(%g, %h), to_apply=%add
  %out = token[] outfeed(%q, %tok)
  ROOT %f = f32[8,8]{1,0} fusion(%k), kind=kLoop, calls=%fused
}
"""


def test_what_a_loop_does_counts_once_a_turn():
    found = hlo.deeds(GPU)
    assert found.kernels == {hlo.FORWARD: 31}
    assert found.collectives["all-gather"] == hlo.Moved(31, 31 * 16 * 8 * 2, 16 * 8 * 2)
    assert found.collectives["all-reduce"] == hlo.Moved(1, 8 * 8 * 4 + 8 * 4, 8 * 8 * 4 + 8 * 4)
    assert len(found.host) == 1
    assert hlo.deeds(GPU, turns=5) == found  # this loop's turns are known
    assert hlo.deeds(GPU.replace("known_trip_count", "x"), turns=5).kernels == {hlo.FORWARD: 5}
    assert hlo.num_aliased(GPU) == 2


def test_a_float32_copy_counts_where_a_fusion_writes_it():
    assert len(hlo.converted(GPU, {(8, 8)})) == 2  # the fusion's result and the sum; not the one inside
    assert hlo.converted(GPU, {(4, 8)}) == []


def test_a_program_of_this_machines_compiler_is_read_too():
    mesh = jax.make_mesh((jax.device_count(),), ("d",), (AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("d"))
    whole = NamedSharding(mesh, PartitionSpec())

    def loop(state, x):
        body = lambda carry, _: (carry + jnp.sum(jnp.tanh(x @ carry), axis=0) @ jnp.ones((4, 4)), None)  # noqa: E731
        return jax.lax.scan(body, state, length=7)[0]

    state = jax.ShapeDtypeStruct((4, 4), jnp.float32, sharding=whole)
    x = jax.ShapeDtypeStruct((jax.device_count() * 8, 4), jnp.float32, sharding=rows)
    step = jax.jit(loop, donate_argnums=0, out_shardings=whole)
    text = step.lower(state, x).compile().as_text()
    assert hlo.num_aliased(text) == 1
    assert hlo.deeds(text).host == ()
    if jax.device_count() > 1:
        assert hlo.deeds(text).collectives["all-reduce"].calls == 7

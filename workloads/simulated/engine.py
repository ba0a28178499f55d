"""An engine that batches continuously, as vLLM's scheduler does, in virtual time. Pure.

Each step, in this order: every sequence that decodes gets one token; the sequence whose prompt is
half computed gets what is left of the token budget; waiting ones are admitted in order of arrival
while there is budget, a seat and room in the KV cache. When a decoding sequence needs a block and
there is none, the youngest sequence is preempted: it loses its blocks, goes to the head of the
queue, and all its tokens are computed again.

A sequence that decodes gets a token every step, so where it stands follows from the step's number.
That makes a step cost the same for two sequences as for two hundred, and lets steps in which nobody
comes or goes be taken many at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

from workloads.simulated.blocks import BlockPool
from workloads.simulated.engine_request import EngineConfig, EngineRequest, State, steps_until


class Engine:
    """``submit`` what has arrived, then ``advance``. What ended since is in ``finished``, which the
    caller clears. ``step_end_s`` gets the end of every step where it is a list."""

    def __init__(self, config: EngineConfig, *, keeps_steps: bool = False) -> None:
        self.config = config
        self.pool = BlockPool(config.num_blocks)
        self.clock_s = 0.0
        self.step = 0  # of the last step that was made
        self.waiting: deque[EngineRequest] = deque()
        self.finished: list[EngineRequest] = []
        self.step_end_s: list[float] | None = [] if keeps_steps else None
        self.peak_blocks = 0  # held in one step, at most
        self.num_preemptions = 0
        self.num_prompt_tokens = 0  # of prompts computed to their end, cached ones included
        self.num_generated_tokens = 0
        self.num_cache_queries = 0  # in tokens, as vLLM counts them
        self.num_cache_hits = 0
        self._prefilling: EngineRequest | None = None
        self._num_decoding = 0
        self._sum_base = 0
        self._phases = [0] * config.block_size  # decoding ones that need a block at step ≡ i
        self._finish: list[tuple[int, int, int, EngineRequest]] = []
        self._order: list[tuple[EngineRequest, int]] = []  # by admission; old epochs are void
        self._base_s = [
            config.roofline.base_s(n, n) for n in range(config.max_num_seqs + 1)
        ]  # of a step that only decodes, by how many
        self._pair_s = config.roofline.decode_pair_s

    @property
    def num_running(self) -> int:
        return self._num_decoding + (self._prefilling is not None)

    @property
    def is_idle(self) -> bool:
        return not (self.num_running or self.waiting)

    @property
    def takes_more(self) -> bool:
        """Whether one that arrives now could be admitted at the next step, as far as seats go and
        nobody waits before it."""
        return not self.waiting and self.num_running < self.config.max_num_seqs

    def submit(self, sequence: EngineRequest) -> None:
        """Raises ValueError for a sequence that could never be served whole."""
        if not self.config.fits(sequence.prompt_tokens, sequence.output_tokens):
            raise ValueError(
                f"a prompt of {sequence.prompt_tokens} and an answer of {sequence.output_tokens} "
                f"tokens do not fit into {self.config.num_blocks} blocks of "
                f"{self.config.block_size}"
            )
        self.waiting.append(sequence)

    def decoding(self) -> Iterator[EngineRequest]:
        """Those that decode, in order of admission."""
        for sequence, epoch in self._order:
            if sequence.epoch == epoch and sequence.state is State.DECODE:
                yield sequence

    def advance(self, until_s: float = math.inf, max_steps: int | None = None) -> bool:
        """Make one step, or as many as are alike, and move the clock to their end.

        Steps that are alike end no later than with the first that reaches ``until_s``: then someone
        may arrive. False: there was nothing to do.
        """
        if self.is_idle:
            return False
        self.step += 1
        num_before = self.num_preemptions
        preempted = self._make_room()
        budget = self.config.max_num_batched_tokens - self._num_decoding
        num_tokens = num_pairs = num_read = 0
        done: list[EngineRequest] = []
        for sequence, start in self._prefills(budget, preempted):
            end = sequence.computed
            num_tokens += end - start
            num_pairs += (end * (end + 1) - start * (start + 1)) // 2
            num_read += end
            if end == sequence.target:
                done.append(sequence)
        n = self._num_decoding
        positions = self._sum_base + n * self.step
        if num_tokens == 0:
            # One sequence alone always fits, so somebody is left to go on.
            assert n, "nothing runs, and nothing that waits can be admitted"
            # After a preemption nobody was let in; the next step may do so.
            preempted = self.num_preemptions > num_before
            self._decode_only(n, positions, until_s, 1 if preempted else max_steps)
        else:
            self.clock_s += self.config.roofline.step_s(
                n + num_tokens, n + len(done), positions + num_pairs, positions + num_read
            )
            if self.step_end_s is not None:
                self.step_end_s.append(self.clock_s)
            self.num_generated_tokens += n
        self.peak_blocks = max(self.peak_blocks, self.pool.num_held)
        self._end_step(done)
        return True

    def abort(self, sequence: EngineRequest) -> None:
        """Forget a sequence that nobody waits for any more."""
        if sequence.state is State.WAITING:
            self.waiting.remove(sequence)
        elif sequence.state is not State.DONE:
            self._leave(sequence, self.step)
        sequence.state = State.DONE

    # One step's parts, in order.

    def _make_room(self) -> bool:
        """A block for everybody whose next token begins one; True: somebody was preempted."""
        preempted = False
        phase = self.step % self.config.block_size
        while self._phases[phase] > self.pool.num_free:
            self._preempt()
            preempted = True
        self.pool.take(self._phases[phase])
        return preempted

    def _prefills(self, budget: int, preempted: bool) -> Iterator[tuple[EngineRequest, int]]:
        """Compute prompts: (sequence, tokens that were there before) for each that gets some."""
        sequence = self._prefilling
        if sequence is not None:
            start = sequence.computed
            chunk = min(sequence.target - start, budget)
            if not self._extend(sequence, start + chunk):
                self._preempt()
                return
            budget -= chunk
            if sequence.computed == sequence.target:
                self._prefilling = None
            yield sequence, start
        num = self.num_running + (sequence is not None and self._prefilling is None)
        while self.waiting and budget > 0 and num < self.config.max_num_seqs and not preempted:
            sequence = self.waiting[0]
            start = self._admit(sequence, budget)
            if start < 0:
                return
            num += 1
            budget -= sequence.computed - start
            if sequence.computed < sequence.target:
                self._prefilling = sequence
            yield sequence, start

    def _admit(self, sequence: EngineRequest, budget: int) -> int:
        """Tokens found in the cache, or −1: there is no room yet."""
        size, pool, target = self.config.block_size, self.pool, sequence.target
        num_hits = 0
        if sequence.hashes and self.config.enable_prefix_caching:
            # The last token is computed in any case: what follows it is asked for.
            num_hits = pool.hits(sequence.hashes, (target - 1) // size)
        start = num_hits * size
        end = min(target, start + budget)
        hits = sequence.hashes[:num_hits]
        num_new = -(-end // size) - num_hits
        if num_new + (pool.num_idle(hits) if hits else 0) > pool.num_free:
            return -1
        self.waiting.popleft()
        pool.hold(hits)
        sequence.named.extend(hits)
        sequence.num_blocks = num_hits
        sequence.computed = start
        sequence.state = State.PREFILL
        self._order.append((sequence, sequence.epoch))
        self._extend(sequence, end)
        if sequence.cached_tokens < 0:  # computing again what was preempted is no query
            sequence.cached_tokens = start
            self.num_cache_queries += target if self.config.enable_prefix_caching else 0
            self.num_cache_hits += start
        return start

    def _extend(self, sequence: EngineRequest, end: int) -> bool:
        """Blocks for the first ``end`` tokens of a sequence; False: there are not enough."""
        size = self.config.block_size
        num_new = -(-end // size) - sequence.num_blocks
        if num_new > self.pool.num_free:
            return False
        self.pool.take(num_new)
        sequence.num_blocks += num_new
        sequence.computed = end
        if sequence.hashes:
            self._name(sequence, end)
        return True

    def _name(self, sequence: EngineRequest, num_tokens: int) -> None:
        """Make the full blocks of its first tokens findable."""
        if not self.config.enable_prefix_caching:
            return
        full = min(num_tokens // self.config.block_size, len(sequence.hashes))
        for key in sequence.hashes[len(sequence.named) : full]:
            if not self.pool.name(key):
                # Someone else computed the same at the same time. Ours stays without a name, and
                # so does all behind it.
                return
            sequence.named.append(key)

    def _decode_only(self, n: int, positions: int, until_s: float, max_steps: int | None) -> None:
        """As many steps as are alike. Their blocks: the first step has them, the others take them.

        k steps take k·a + b·(k·positions + n·k·(k − 1)/2): everybody sees one position more.
        """
        a, b = self._base_s[n], self._pair_s
        k = self._finish[0][0] - self.step + 1
        if max_steps is not None and max_steps < k:
            k = max_steps
        if until_s < math.inf and k > 1:
            k = min(k, steps_until(until_s - self.clock_s, a + b * positions, b * n))
        if k > 1:
            k = self._with_blocks(n, k)
        first_s = a + b * positions
        if self.step_end_s is not None:
            begun_s = self.clock_s
            self.step_end_s.extend(
                begun_s + (j * first_s + b * n * (j * (j - 1) // 2)) for j in range(1, k + 1)
            )
        self.clock_s += k * first_s + b * n * (k * (k - 1) // 2)
        self.num_generated_tokens += n * k
        self.step += k - 1

    def _with_blocks(self, n: int, k: int) -> int:
        """At most ``k`` steps for which there are blocks, the first being provided for. Takes those
        of the others."""
        size, free, phases = self.config.block_size, self.pool.num_free, self._phases
        cycles, rest = divmod(k - 1, size)  # in ``size`` steps everybody needs one block
        if cycles * n > free:
            cycles, rest = free // n, size - 1
        num = cycles * n
        steps = cycles * size
        for i in range(self.step + 1, self.step + 1 + rest):
            more = phases[i % size]
            if num + more > free:
                break
            num += more
            steps += 1
        self.pool.take(num)
        return steps + 1

    def _end_step(self, done: list[EngineRequest]) -> None:
        step, clock_s = self.step, self.clock_s
        heap = self._finish
        while heap and heap[0][0] <= step:
            _, _, epoch, sequence = heappop(heap)
            if sequence.epoch == epoch:
                self._leave(sequence, step)
                self._complete(sequence)
        for sequence in done:
            if math.isnan(sequence.first_token_s):
                sequence.first_token_s = clock_s
                self.num_prompt_tokens += sequence.prompt_tokens
            sequence.generated += 1
            self.num_generated_tokens += 1
            sequence.segments.append(step)
            if sequence.generated == sequence.output_tokens:
                sequence.segments.append(step)
                self._free(sequence, sequence.computed, sequence.num_blocks)
                self._complete(sequence)
            else:
                self._start_decoding(sequence)
        if heap and len(self._order) > 2 * self.num_running + 1024:
            self._order = [entry for entry in self._order if entry[0].epoch == entry[1]]

    def _start_decoding(self, sequence: EngineRequest) -> None:
        step = self.step
        sequence.state = State.DECODE
        sequence.base = base = sequence.computed - step
        sequence.finish_step = step + sequence.output_tokens - sequence.generated
        self._num_decoding += 1
        self._sum_base += base
        self._phases[(1 - base) % self.config.block_size] += 1
        entry = (sequence.finish_step, sequence.number, sequence.epoch, sequence)
        heappush(self._finish, entry)

    def _complete(self, sequence: EngineRequest) -> None:
        sequence.state = State.DONE
        sequence.done_s = self.clock_s
        self.finished.append(sequence)

    def _preempt(self) -> None:
        """The youngest goes back to the head of the queue."""
        while self._order[-1][0].epoch != self._order[-1][1]:
            self._order.pop()
        sequence, _ = self._order.pop()
        self._leave(sequence, self.step - 1)
        sequence.state = State.WAITING
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        self.waiting.appendleft(sequence)

    def _leave(self, sequence: EngineRequest, step: int) -> None:
        """Out of the batch after ``step``, its blocks given back."""
        if sequence.state is State.DECODE:
            size = self.config.block_size
            computed = sequence.base + step
            self._num_decoding -= 1
            self._sum_base -= sequence.base
            self._phases[(1 - sequence.base) % size] -= 1
            sequence.generated = sequence.output_tokens - (sequence.finish_step - step)
            sequence.segments.append(step)
            self._free(sequence, computed, -(-computed // size))
        else:
            if self._prefilling is sequence:
                self._prefilling = None
            self._free(sequence, sequence.computed, sequence.num_blocks)

    def _free(self, sequence: EngineRequest, computed: int, num_blocks: int) -> None:
        if sequence.hashes:
            self._name(sequence, computed)  # what decoding has filled
        self.pool.release(num_blocks - len(sequence.named), sequence.named)
        sequence.named = []
        sequence.num_blocks = sequence.computed = 0
        sequence.epoch += 1

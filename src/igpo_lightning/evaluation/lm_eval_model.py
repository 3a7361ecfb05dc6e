"""The sampler and the likelihood as a model of lm-evaluation-harness, `igpo_dllm`.

Needs the extra `lm_eval`. `igpo_lightning.lm_eval` starts the harness with this model known to it.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from torch import Tensor
from tqdm import tqdm

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.likelihood import token_scores
from igpo_lightning.diffusion.masked_inputs import draw_masked_inputs
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.models import load_backbone, load_tokenizer
from igpo_lightning.models.chat_template import render
from igpo_lightning.settings import LikelihoodConfig, SamplerConfig

log = logging.getLogger(__name__)
_KNOWN = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p"}
_CHUNK = 8  # batches that are sorted by length together, and after which results are cached


def canvas(config: SamplerConfig, tokens: int, temperature: float) -> SamplerConfig:
    """The sampler for a request: as many whole blocks as hold its tokens, as many tokens a step."""
    blocks = -(-tokens // config.block_length)
    own_blocks = config.completion_length // config.block_length
    return replace(
        config,
        completion_length=blocks * config.block_length,
        steps=blocks * (config.steps // own_blocks),
        temperature=temperature,
    )


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stop sequences."""
    ends = [text.index(stop) for stop in until if stop and stop in text]
    return text[: min(ends)] if ends else text


@register_model("igpo_dllm")
class DiffusionLM(LM):
    """A masked diffusion model in one process; every result follows from the seed and the request.

    Its sampler's settings are arguments too, all those of `SamplerConfig`: `--model_args
    path=RUN/export,completion_length=256,block_length=32,steps=128`.
    """

    def __init__(
        self,
        path: str = "tiny",
        dtype: str = "float32",
        device: str | None = None,
        batch_size: int | str = 8,
        max_batch_size: int | None = None,
        max_length: int = 4096,
        likelihood_samples: int = 128,
        seed: int = 0,
        mask_token: str | None = None,
        trust_remote_code: bool = False,
        **sampler: Any,
    ) -> None:
        """Load the model.

        Args:
            path: Folder, hub id or "tiny", as `model.path`.
            dtype: Of the weights: float32 or bfloat16.
            device: cuda, cuda:N or cpu; None for the first GPU, where there is one.
            batch_size: Rows a forward pass.
            max_batch_size: The harness's limit for automatic batch sizes, which are not supported.
            max_length: Tokens of prompt and completion; longer prompts lose their beginning.
            likelihood_samples: Masked inputs a log-likelihood is estimated from.
            seed: Every random draw follows from it.
            mask_token: As `model.mask_token`.
            trust_remote_code: As `model.trust_remote_code`.
            sampler: Of `SamplerConfig`; the paper's 256 tokens in blocks of 32, two a step, where
                nothing is given. A task's own `max_gen_toks` and temperature win.

        Raises:
            ConfigError: An argument is unknown or does not fit.
        """
        super().__init__()
        if not str(batch_size).isdecimal() or int(batch_size) < 1 or max_batch_size is not None:
            raise ConfigError(f"batch_size={batch_size}: give a number of rows, at least 1")
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype={dtype}: use float32 or bfloat16")
        if likelihood_samples < 1:
            raise ConfigError(f"likelihood_samples={likelihood_samples}: give at least 1")
        try:
            self.sampler = SamplerConfig(**({"stop_after_eos": True} | sampler))
        except (TypeError, ValueError) as error:
            known = ", ".join(sorted(SamplerConfig.__dataclass_fields__))
            raise ConfigError(f"--model_args: {error}; the sampler takes {known}") from error
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.path, self.seed = path, seed
        self.batch_size, self.max_length = int(batch_size), max_length
        self.likelihood_samples = likelihood_samples
        self.tokenizer = load_tokenizer(path, mask_token)
        self.backbone = load_backbone(
            path,
            dtype=getattr(torch, dtype),
            device=self._device,
            mask_token=mask_token,
            trust_remote_code=trust_remote_code,
        ).eval()

    @property
    def tokenizer_name(self) -> str:
        """What the harness's caches are told apart by."""
        return self.path.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The tokenizer's chat template, where the harness was asked to apply it."""
        return str(self.tokenizer.chat_template or "") if chat_template else ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Turns as the prompt that the model was trained on."""
        return render(
            self.tokenizer,
            chat_history,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Denoise a completion for each request, and end it before the first stop sequence."""
        asked = [self._asked(dict(request.args[1])) for request in requests]
        seen: Counter[str] = Counter()
        seeds = []
        for request in requests:  # a request that is repeated is another sample
            context = request.args[0]
            seeds.append(stable_seed(self.seed, "lm_eval", context, seen[context]))
            seen[context] += 1
        texts: dict[int, str] = {}
        progress = tqdm(total=len(requests), disable=disable_tqdm, desc="denoising")
        for config, tokens in dict.fromkeys((config, tokens) for config, tokens, _ in asked):
            rows = [i for i, (own, most, _) in enumerate(asked) if (own, most) == (config, tokens)]
            size = _CHUNK * self.batch_size
            for chunk in (rows[start : start + size] for start in range(0, len(rows), size)):
                contexts = [requests[i].args[0] for i in chunk]
                drawn = self._denoised(contexts, [seeds[i] for i in chunk], config, tokens)
                for i, text in zip(chunk, drawn, strict=True):
                    texts[i] = cut(text, asked[i][2])
                    self.cache_hook.add_partial("generate_until", requests[i].args, texts[i])
                progress.update(len(chunk))
        progress.close()
        return [texts[i] for i in range(len(requests))]

    def _asked(self, given: dict[str, Any]) -> tuple[SamplerConfig, int, tuple[str, ...]]:
        """Sampler, tokens and stop sequences of a request's generation arguments."""
        if "temperature" not in given and given.get("do_sample") is not False:
            given |= {"temperature": self.sampler.temperature, "do_sample": True}
        kwargs = dict(normalize_gen_kwargs(given, self.sampler.completion_length))
        ignored = {name for name in kwargs if name not in _KNOWN and kwargs[name] is not None}
        if ignored:
            log.warning("not known to a diffusion sampler, ignored: %s", ", ".join(sorted(ignored)))
        tokens = int(kwargs["max_gen_toks"])
        config = canvas(self.sampler, tokens, float(kwargs["temperature"]))
        if config.completion_length >= self.max_length:
            raise ConfigError(
                f"max_gen_toks={tokens}: leaves no room for a prompt within max_length="
                f"{self.max_length}; lower it, or raise max_length in --model_args"
            )
        drawn = {name: kwargs[name] for name in ("top_k", "top_p") if kwargs.get(name)}
        return replace(config, **drawn), tokens, tuple(kwargs["until"])

    def _denoised(
        self, contexts: Sequence[str], seeds: Sequence[int], config: SamplerConfig, tokens: int
    ) -> list[str]:
        problems = []
        for context in contexts:
            ids = self._encoded(context)
            room = self.max_length - config.completion_length
            if len(ids) > room:
                log.warning("a prompt of %d tokens loses its beginning: %d fit", len(ids), room)
            problem = Problem(id="", question=context, solution=None, answer="")
            problems.append(EncodedProblem(problem, ids[-room:], None, None))
        answerer = Answerer(self.backbone, self.tokenizer, config, self.batch_size)
        output = answerer.answer(problems, seeds, self._device)
        return answerer.texts(output.completion_ids[:, :tokens])

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """A lower bound on the log-likelihood of each continuation, and whether it is greedy's.

        The bound is the Monte-Carlo estimate of LLaDA (arXiv 2502.09992, Eq. 14), exact for a
        single token. Greedy decoding commits one token a pass, the most confident first.
        """
        results = []
        for request in tqdm(requests, disable=disable_tqdm, desc="log-likelihoods"):
            context, continuation = request.args
            result = self._scored(*self._split(context, continuation))
            self.cache_hook.add_partial("loglikelihood", request.args, result)
            results.append(result)
        return results

    def _split(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both; spaces between them belong to the continuation's first word."""
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        prompt = self._encoded(context)
        target = self._encoded(context + continuation)[len(prompt) :]
        room = self.max_length - len(target)
        if room < 0:
            raise ConfigError(
                f"max_length={self.max_length}: a continuation has {len(target)} tokens; raise it"
            )
        return prompt[max(0, len(prompt) - room) :], target

    @torch.no_grad()
    def _scored(self, prompt: list[int], target: list[int]) -> tuple[float, bool]:
        length = len(target)
        if length == 0:
            return 0.0, True  # nothing to say is certain
        # A single token is masked in every input: one of them says all.
        samples = 1 if length == 1 else self.likelihood_samples
        rows = min(self.batch_size, samples)
        settings = LikelihoodConfig(kind="elbo", samples=-(-samples // rows))
        seeds = [stable_seed(self.seed, "likelihood", str(target), row) for row in range(rows)]
        keys = row_keys(seeds, self._device)
        prompt_ids, target_ids = self._rows(prompt, rows), self._rows(target, rows)
        everywhere = torch.ones_like(target_ids, dtype=torch.bool)
        inputs = draw_masked_inputs(settings, target_ids, keys=keys, live_mask=everywhere)
        scores = token_scores(self.backbone, prompt_ids, target_ids, inputs)
        bound = scores.logp.double().sum(dim=1).mean().item()
        width = self.backbone.block_size or length
        whole = -(-length // width) * width
        greedy = SamplerConfig(whole, width, whole)
        output = denoise(self.backbone, prompt_ids[:1], greedy, keys=keys[:1])
        return bound, bool(torch.equal(output.completion_ids[0, :length], target_ids[0]))

    def _rows(self, ids: list[int], rows: int) -> Tensor:
        """[rows, len(ids)], all the same."""
        return torch.tensor([ids] * rows, dtype=torch.long, device=self._device)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Refused: a sum of bounds over windows is no perplexity that could be compared."""
        raise NotImplementedError(
            "igpo_dllm bounds the likelihood of a continuation and has none of a whole text; "
            "choose tasks of output_type generate_until, multiple_choice or loglikelihood"
        )

"""What other programs and our own pages call a key. It is for suggestions only: a configuration has one name a key."""

_THEIRS = {
    # a training
    "lr": "learning_rate base_lr max_lr peak_lr lr_rate",
    "lr_warmup_steps": "warmup warmup_steps num_warmup_steps warmup_iters",
    "lr_min_ratio": "min_lr lr_min min_learning_rate min_lr_ratio eta_min",
    "lr_decay_steps": "decay_steps lr_decay_iters",
    "weight_decay": "wd",
    "beta1": "adam_beta1 betas adam_betas",
    "beta2": "adam_beta2",
    "grad_clip_norm": "grad_clip clip_grad clip_grad_norm max_grad_norm gradient_clip gradient_clip_val clip_norm",
    "gradient_accumulation_steps": "grad_accum grad_accum_steps accum_steps accumulate_grad_batches micro_batches",
    "global_batch_size": "batch_size bs batch train_batch_size eval_batch_size per_device_train_batch_size "
    "per_device_eval_batch_size micro_batch_size local_batch_size",
    "epochs": "epoch num_epochs max_epochs num_train_epochs n_epochs",
    "max_steps": "steps num_steps n_steps total_steps train_steps num_train_steps max_train_steps max_iters iterations",
    "max_seconds": "max_time time_limit timeout max_minutes max_hours",
    "ema_rate": "ema_decay ema_mu mu ema_beta",
    "ema": "use_ema with_ema",
    "seed": "random_seed rng_seed",
    "load_checkpoint": "load_weights load_weights_only init_from pretrained pretrained_path init_checkpoint "
    "finetune_from checkpoint ckpt weights",
    "resume": "resume_from resume_path resume_from_checkpoint resume_checkpoint ckpt_path",
    "checkpoint_path": "output_dir out_dir outdir save_dir log_dir ckpt_dir checkpoint_dir work_dir",
    "checkpoint_interval_steps": "checkpoint_interval checkpoint_every checkpoint_every_eval save_every save_interval "
    "save_steps save_freq ckpt_interval",
    "eval_interval_steps": "eval_interval eval_every eval_steps eval_freq val_interval val_check_interval",
    "log_interval_steps": "log_interval log_every log_steps logging_steps log_freq print_every",
    "eval_puzzles": "eval_samples max_eval_samples val_size",
    "run_name": "name exp_name experiment experiment_name wandb_name run_id",
    "project_name": "project wandb_project",
    "entity": "wandb_entity team",
    "wandb_mode": "wandb use_wandb report_to logger",
    "compile": "torch_compile use_compile disable_compile",
    "device": "gpu gpus accelerator cuda",
    "optimizer": "optim optimizer_name opt",
    # of the model
    "forward_dtype": "dtype precision amp bf16 fp16 mixed_precision",
    "hidden_size": "d_model dim hidden_dim embed_dim n_embd width hidden",
    "num_heads": "heads n_heads n_head nhead num_attention_heads",
    "L_layers": "layers n_layers num_layers n_layer num_hidden_layers",
    "pos_encodings": "pos_encoding position_embedding positions pos_emb",
    "lambda_": "lambda lam damping relaxation",
    "noise_scale": "noise noise_std beta sigma",
    "loss_type": "loss loss_fn criterion",
    "halt_max_steps": "depth max_depth n_sup supervision_steps N_sup halt_steps act_steps outer_iterations",
    # an evaluation
    "different_init": "breadth restarts num_restarts n_restarts num_starts starts samples num_samples best_of pass_k",
    "different_init_reset_std": "reset_std init_std",
    "convergence_top_k": "top_k topk",
    "max_puzzles": "limit num_puzzles max_samples max_examples n_examples",
    "eval_dir": "output_dir out_dir outdir save_dir results_dir output",
    "checkpoint": "load_checkpoint ckpt ckpt_path checkpoint_file checkpoint_path model model_path weights resume run",
    "dataset_data_path": "dataset data_path data_paths data_paths_test data_dir data dataset_path dataset_dir",
    "data_path": "data_paths data_dir data dataset_path dataset_dir",
    "split": "subset partition",
    "halt_q": "q_threshold halt_threshold threshold act_threshold",
    "streaming": "act adaptive adaptive_compute act_streaming",
    # without a counterpart
    "": "evaluators evaluator gradient_checkpoint gradient_checkpointing activation_checkpointing freeze_weights "
    "num_workers dataloader_num_workers eval_save_outputs min_eval_interval disable_tqdm scheduler lr_scheduler",
}

SYNONYMS: dict[str, set[str]] = {}
"""Our keys, without the groups before them, by another program's."""

for _ours, _words in _THEIRS.items():
    for _word in _words.split():
        SYNONYMS.setdefault(_word, set()).add(_ours)

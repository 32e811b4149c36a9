//! The model catalogue.

use crate::json::{Value, json};

/// The entries of the catalogue.
pub(super) fn catalogue(ids: &[String]) -> Value {
    ids.iter().map(|id| entry(id)).collect()
}

fn entry(id: &str) -> Value {
    let name = id.replacen("qwen", "Qwen", 1);
    let coder = id.contains("coder");
    let mut meta = json!({
        "profile_image_url": "/static/favicon.png",
        "description": "A model of the emulator.",
        "short_description": "Emulated",
        "capabilities": {
            "vision": !coder, "document": true, "video": !coder, "audio": !coder,
            "citations": true, "thinking": !coder, "thinking_budget": !coder,
        },
        "max_context_length": if coder { 1_048_576 } else { 262_144 },
        "abilities": {"vision": i32::from(!coder), "document": 1, "mcp": 1},
        "chat_type": ["t2t", "t2i", "t2v", "search", "deep_research"],
        "mcp": [],
        "modality": ["text", "image"],
    });
    if coder {
        meta["max_generation_length"] = 65_536.into();
    } else {
        meta["max_thinking_generation_length"] = 81_920.into();
        meta["max_summary_generation_length"] = 32_768.into();
    }
    json!({
        "id": id, "name": name, "object": "model", "owned_by": "qwen", "preset": true,
        "action_ids": [],
        "info": {
            "id": id, "user_id": "00000000-0000-4000-8000-000000000000", "base_model_id": null,
            "name": name, "meta": meta, "access_control": null, "is_active": true,
            "is_visitor_active": true, "updated_at": 1_760_000_000, "created_at": 1_732_000_000,
        },
    })
}

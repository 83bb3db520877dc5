/* The boundary between the host and a plugin: C types only, nothing with a vtable or an exception.
 *
 * A plugin exports one symbol, `molt_plugin`, a function that returns its table. The table points to
 * constants inside the plugin's image, so whoever holds a pointer into it must hold a lease on the image.
 * The same facts stand in the ELF note (docs/reference/note-format.md); the loader refuses a plugin whose
 * table and note disagree. Authors never write this by hand: plugin/molt/plugin.hpp makes it from their types.
 *
 * Conventions
 *   status     every function that can fail returns a molt_status; 0 is success. Nothing throws.
 *   text       a function that fails writes a sentence into its molt_text; on success the text is unspecified.
 *   storage    "storage" is uninitialised memory of the schema's size and alignment that the caller owns.
 *   names      pointers to NUL-terminated UTF-8 in the image.
 *   threading  functions of one server's type are called by one thread at a time per server, any thread.
 */
#ifndef MOLT_PLUGIN_ABI_H
#define MOLT_PLUGIN_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raise when the meaning or layout of anything in this file changes. A host loads only its own version. */
#define MOLT_ABI_VERSION 1u

/* The exported symbol's name. */
#define MOLT_PLUGIN_SYMBOL "molt_plugin"

/* The note: owner name, type and section. See docs/reference/note-format.md. */
#define MOLT_NOTE_OWNER "molt"
#define MOLT_NOTE_TYPE 0x746c6f6du /* "molt" in little-endian ASCII */
#define MOLT_NOTE_SECTION ".note.molt"

typedef enum molt_status {
  MOLT_OK = 0,
  MOLT_TIMEOUT = 1,
  MOLT_NO_SUCH_SERVER = 2,
  MOLT_SERVER_FAILED = 3,
  MOLT_OVERLOADED = 4,
  MOLT_WOULD_DEADLOCK = 5,
  MOLT_UNKNOWN_MESSAGE = 6,
  MOLT_STOPPING = 7,
  MOLT_THREW = 8,        /* plugin code threw; the text holds what() */
  MOLT_BAD_ARCHIVE = 9,  /* load(): the bytes do not hold such an object */
  MOLT_OUT_OF_BOUNDS = 10, /* a stated limit was reached */
  MOLT_NAME_TAKEN = 11,
  MOLT_NOT_FOUND = 12,
  MOLT_REFUSED = 13,
  MOLT_IGNORED = 14 /* init: no server is wanted, and that is no failure */
} molt_status;

/* A reference to a server: slot and generation, 0 for none. Harmless after its server is gone. Valid in one process. */
typedef struct molt_ref {
  uint64_t bits;
} molt_ref;

/* Text copied out of the plugin into host memory; longer text is cut. */
#define MOLT_TEXT_CAPACITY 1020u
typedef struct molt_text {
  uint32_t size;
  char data[MOLT_TEXT_CAPACITY];
} molt_text;

/* Where an archive is written. `grow` makes room for at least `more` bytes at `cursor`, or returns a status. */
typedef struct molt_sink {
  char* cursor;
  char* end;
  int (*grow)(struct molt_sink* self, size_t more);
} molt_sink;

/* Where an archive is read from. `cursor` advances; nothing beyond `end` is touched. */
typedef struct molt_source {
  const char* cursor;
  const char* end;
} molt_source;

/* ---- Schemas: a type of a state or of a message, as this image knows it ---- */

enum {
  /* No code of this image is reachable from an object: it may be adopted by another image with an equal fingerprint. */
  MOLT_SCHEMA_CODE_FREE = 1u << 0,
  /* The type has its own serialize(archive, version) and reads archives of lower versions of the same name. */
  MOLT_SCHEMA_READS_OLDER = 1u << 1,
  /* The archive form follows the schema's text, so JSON can be converted to it and back without code. */
  MOLT_SCHEMA_TRANSPARENT = 1u << 2
};

typedef struct molt_schema {
  uint64_t fingerprint;  /* FNV-1a 64 over the toolchain's text, a NUL, and `text` */
  const char* name;      /* as the author spells it, e.g. "sessions::state"; not part of the fingerprint */
  const char* text;      /* canonical structure; grammar in docs/reference/note-format.md */
  uint32_t size;
  uint32_t align;
  uint32_t flags;        /* MOLT_SCHEMA_... */
  uint32_t version;      /* the declared class version; 0 unless declared */
  /* Writes the archive form. Statuses: MOLT_THREW, and what `grow` returned. */
  int (*save)(const void* object, molt_sink* to, molt_text* error);
  /* Constructs an object in storage from its archive form. Statuses: MOLT_BAD_ARCHIVE, MOLT_OUT_OF_BOUNDS, MOLT_THREW;
   * then nothing was constructed. */
  int (*load)(void* storage, molt_source* from, molt_text* error);
  /* Destroys in place. */
  void (*destroy)(void* object);
  /* Move-constructs in storage; `from` still needs destroy. NULL if the type cannot be moved without throwing. */
  void (*move)(void* storage, void* from);
} molt_schema;

/* ---- Messages ---- */

typedef struct molt_message {
  const char* name;            /* unqualified type name, e.g. "touch": equal over versions */
  uint64_t key;                /* FNV-1a 64 over name, NUL, payload fingerprint and reply fingerprint (little-endian; 0 for a cast) */
  const molt_schema* payload;
  const molt_schema* reply;    /* NULL: a cast */
} molt_message;

/* ---- What the host offers ---- */

struct molt_host;
struct molt_work;

/* One activation: made by the host for the time a callback runs. Not to be kept, nor copied. */
typedef struct molt_context {
  const struct molt_host* host;
  molt_ref self; /* the running server */
} molt_context;

typedef struct molt_argument {
  const char* key;
  const char* value;
} molt_argument;

typedef struct molt_arguments {
  const molt_argument* items;
  size_t count;
} molt_arguments;

enum { MOLT_LOG_DEBUG = 0, MOLT_LOG_INFO = 1, MOLT_LOG_WARNING = 2, MOLT_LOG_ERROR = 3 };

/* All functions: any thread that holds a context. Times: nanoseconds. */
typedef struct molt_host {
  uint32_t abi_version;
  uint32_t size; /* of this struct, so that a later host may append */

  /* Sends `payload` and waits for the reply, constructed in reply_storage on MOLT_OK. The payload may be moved from but is
   * destroyed by the caller. timeout_ns <= 0: the default, 5 s.
   * Statuses: TIMEOUT, NO_SUCH_SERVER, SERVER_FAILED, OVERLOADED, WOULD_DEADLOCK, UNKNOWN_MESSAGE, STOPPING; THREW: an edge
   * between two versions of the message or of its reply threw, and nothing else has failed. */
  int (*call)(molt_context*, molt_ref to, const molt_message*, void* payload, void* reply_storage, int64_t timeout_ns);
  /* Why the calling thread's last call failed; to be read before it calls again. (Six arguments travel in registers.) */
  const molt_text* (*call_failure)(molt_context*);
  /* Queues `payload`, moved from. Statuses: NO_SUCH_SERVER, OVERLOADED, STOPPING. Delivery is not confirmed. */
  int (*cast)(molt_context*, molt_ref to, const molt_message*, void* payload);

  /* The server registered under a name now, or 0. */
  molt_ref (*lookup)(molt_context*, const char* name, size_t size);
  /* Starts a server of a type of the running release ("counter.server"), unsupervised, registered if `name` is not empty;
   * returns when its init has. Statuses: NOT_FOUND, NAME_TAKEN, THREW, REFUSED, OUT_OF_BOUNDS. */
  int (*start)(molt_context*, const char* type, const char* name, const molt_arguments*, molt_ref* started, molt_text* error);
  /* Asks a server to stop after the message it is handling; `terminate` gets the reason. */
  int (*stop)(molt_context*, molt_ref, const char* why);

  /* Sends `payload`, moved from, as a cast after a delay; returns the timer's id, 0 when overloaded. Survives upgrades. */
  uint64_t (*send_after)(molt_context*, molt_ref to, int64_t delay_ns, const molt_message*, void* payload);
  /* Returns 1 if the timer had not fired and now will not, else 0. */
  int (*cancel)(molt_context*, uint64_t timer);

  /* Only in a handler flagged MOLT_HANDLER_DEFERS: the token that answers the call being handled, never 0. */
  uint64_t (*defer)(molt_context*);
  /* Answers a deferred call; `value` (of schema `reply`) is moved from. A caller of another version gets it through reply
   * edges. NOT_FOUND: answered, timed out or gone; harmless. */
  int (*reply)(molt_context*, uint64_t token, const molt_schema* reply, void* value);

  /* Connections only: append to the output; end after the output is flushed; bytes not yet taken by the client. */
  int (*write)(molt_context*, const char* data, size_t size);
  void (*close)(molt_context*);
  size_t (*output_pending)(molt_context*);

  void (*log)(molt_context*, int level, const char* text, size_t size);
  /* Monotonic clock, and wall clock since the Unix epoch; a test may replace both. */
  int64_t (*monotonic_ns)(molt_context*);
  int64_t (*wall_clock_ns)(molt_context*);

  /* Puts `payload`, moved from, before everything that waits for the running server, behind what the same function put
   * there. Statuses: OVERLOADED, REFUSED (the payload cannot be moved). */
  int (*continue_with)(molt_context*, const molt_message*, void* payload);
  /* The running server ends after this function, and handles nothing in between; `terminate` gets the reason. In init: the
   * start is refused. */
  void (*stop_self)(molt_context*, const char* why);

  /* The running server is sent molt::down once when the other one ends, at once if it has. 0: overloaded, or itself. */
  uint64_t (*monitor)(molt_context*, molt_ref);
  /* Returns 1 if the monitor had not fired and now will not, else 0. */
  int (*demonitor)(molt_context*, uint64_t monitor);
  /* When one of both fails, the other fails with the same reason, or, if it handles molt::exit_signal, gets that. Twice is
   * once. Statuses: NO_SUCH_SERVER, OVERLOADED, REFUSED (itself). */
  int (*link)(molt_context*, molt_ref);
  /* Statuses: NOT_FOUND. */
  int (*unlink)(molt_context*, molt_ref);

  /* Named groups of servers; one that ends leaves. Statuses: OUT_OF_BOUNDS; NOT_FOUND. */
  int (*join)(molt_context*, const char* group, size_t size);
  int (*leave)(molt_context*, const char* group, size_t size);
  /* How many members the group has; up to `capacity` of them are written, in no order. */
  size_t (*members)(molt_context*, const char* group, size_t size, molt_ref* to, size_t capacity);

  /* As send_after, again and again: the nth time n periods from now. What was missed is not made up for. Ends with the
   * receiver, or by `cancel`. */
  uint64_t (*send_every)(molt_context*, molt_ref to, int64_t period_ns, const molt_message*, void* payload);

  /* Runs `work`, moved from, on a thread where it may block, and sends what it makes to the running server. Statuses:
   * OVERLOADED, STOPPING. */
  int (*offload)(molt_context*, const struct molt_work*, void* work);

  /* Starts a child of a dynamic supervisor of the release; returns when its init has. It gets the supervisor's own
   * arguments, replaced and followed by these, and is registered under `name` if that is neither NULL nor empty.
   * Statuses: NOT_FOUND (no such supervisor), REFUSED (it is not dynamic), STOPPING (it does not run), NAME_TAKEN, THREW,
   * OUT_OF_BOUNDS. */
  int (*start_child)(molt_context*, const char* supervisor, const char* name, const molt_arguments*, molt_ref* started,
                     molt_text* error);

  /* For crash reports: a function of the running server has thrown, and the exception is being handled. `in` is the name of
   * the message, or of another function with "()" behind it; it is copied. */
  void (*threw)(molt_context*, const char* in);

  /* The running function ends because an entry of the state could not be converted (see `evolve`); it returns MOLT_THREW.
   * Its call fails with the text, a cast is logged, and the server goes on with its state. */
  void (*not_converted)(molt_context*);

  /* In init: constructs in storage the state that a hook of the release has given to the server under its name
   * (molt_change_host::give), once. Statuses: NOT_FOUND (nothing was given, or it was taken), REFUSED (it has another
   * structure than `as`), BAD_ARCHIVE, OUT_OF_BOUNDS, THREW. */
  int (*given)(molt_context*, const molt_schema* as, void* storage, molt_text* error);
} molt_host;

/* What `offload` runs: an object of the plugin's with a function that makes one message. */
typedef struct molt_work {
  const molt_message* message;
  uint32_t size;
  uint32_t align;
  /* Move-constructs in storage; `from` still needs destroy. */
  void (*move)(void* storage, void* from);
  void (*destroy)(void* work);
  /* Constructs the message's payload. Any thread, once. Statuses: MOLT_THREW, and then nothing was constructed. */
  int (*run)(void* work, void* payload_storage, molt_text* error);
} molt_work;

/* ---- Server types ---- */

enum { MOLT_HANDLER_DEFERS = 1u << 0 };

typedef struct molt_handler {
  const molt_message* message;
  uint32_t flags;
  uint32_t reserved;
  /* Handles one message. `payload` may be moved from; it is destroyed by the caller. For a call that does not defer,
   * constructs the reply in reply_storage on MOLT_OK. Statuses: MOLT_THREW. */
  int (*handle)(molt_context*, void* state, void* payload, void* reply_storage, molt_text* error);
} molt_handler;

struct molt_change_host;

/* What a hook is told beside the old state. */
typedef struct molt_change {
  const char* from_version;
  const char* to_version;
  molt_arguments arguments;            /* of the release and of the command line; OTP's Extra */
  const struct molt_change_host* host; /* NULL in hooks of messages */
  void* with;                          /* the host's own */
} molt_change;

/* What a hook of a state may ask while it runs. Threading: the thread that runs the hook; `time_left_ns` also those that
 * `parallel` has run a part. What is returned by pointer is valid until the hook returns. */
typedef struct molt_change_host {
  uint32_t size; /* of this struct, so that a later host may append */
  uint32_t reserved;
  /* The name under which the server is registered; empty if it has none. */
  const char* (*server_name)(const molt_change*);
  /* What the server was started with, or told last by config_change. */
  molt_arguments (*config)(const molt_change*);
  /* Until the hooks of this server are over their deadline; negative: since then. INT64_MAX: there is none. */
  int64_t (*time_left_ns)(const molt_change*);
  /* Calls part(with, begin, end) for ranges that together are [0, count), each of at least `least` but the last, on several
   * threads, this one included; returns when all have returned. `part` returns a molt_status: after the first that is not
   * MOLT_OK no further range is begun, and that status is returned. MOLT_THREW with a text: the hook has to end (its
   * deadline has passed). */
  int (*parallel)(const molt_change*, size_t count, size_t least, int (*part)(void* with, size_t begin, size_t end),
                  void* with, molt_text* error);

  /* The other two only in hooks flagged MOLT_EDGE_OTHERS, which run while everything rests. */
  /* The state of the server registered as `name`, as an object of `as`: as it was when everything came to rest, whatever
   * other hooks have done since. On the way back of something that failed, and in a rehearsal, what was given under that
   * name, if no server runs under it. *state is NULL if there is neither. Statuses: REFUSED (its state has another
   * structure), and what an archive of it comes to. */
  int (*other)(const molt_change*, const char* name, const molt_schema* as, const void** state, molt_text* error);
  /* The server that the release starts under `name` gets this state, moved from, when its init asks for it
   * (molt_host::given). Statuses: NOT_FOUND (the release starts no such server), NAME_TAKEN (one runs; or it was given a
   * state), REFUSED (it starts with a state of another structure, or finds this one broken), OUT_OF_BOUNDS. */
  int (*give)(const molt_change*, const char* name, const molt_schema* of, void* state, molt_text* error);
} molt_change_host;

enum {
  MOLT_EDGE_DOWN = 1u << 0,      /* from a newer schema to an older one */
  MOLT_EDGE_CONSUMES = 1u << 1,  /* takes its input by rvalue and may have emptied it when it throws */
  MOLT_EDGE_NOEXCEPT = 1u << 2,  /* declared noexcept */
  MOLT_EDGE_WHOLE = 1u << 3,     /* takes its input by lvalue reference: it is whole if the hook throws, and emptied if not */
  MOLT_EDGE_CONTEXT = 1u << 4,   /* takes the molt_change: what it makes may depend on more than the state */
  MOLT_EDGE_OTHERS = 1u << 5     /* may use molt_change_host::other and give: everything has to rest; CONTEXT is set too */
};

/* A hook from one schema to another. */
typedef struct molt_edge {
  const molt_schema* from;
  const molt_schema* to;
  uint32_t flags; /* MOLT_EDGE_... */
  uint32_t reserved;
  const char* loss;       /* NULL, or the name by which an operator accepts what this edge loses, e.g. "lists" */
  const char* loss_text;  /* NULL, or what is lost, as a sentence */
  /* Constructs `to` in storage. `from` stays constructed (perhaps emptied) and is destroyed by the caller with
   * from->destroy. Statuses: MOLT_THREW, and then nothing was constructed. */
  int (*apply)(void* from, void* to_storage, const molt_change*, molt_text* error);
  /* Of a message edge the name of the message that it converts; of a reply edge that of the message whose replies it
   * converts, empty for all. NULL for a state edge. */
  const char* message;
} molt_edge;

enum { MOLT_KIND_SERVER = 0, MOLT_KIND_CONNECTION = 1 };

typedef struct molt_server_type {
  const char* name;  /* "counter.server": plugin name, dot, unqualified type name */
  uint32_t kind;
  uint32_t handler_count;
  const molt_schema* state;
  const molt_handler* handlers;
  uint32_t state_edge_count;
  uint32_t message_edge_count;
  const molt_edge* state_edges;
  const molt_edge* message_edges;  /* payload schema to payload schema, of one message */
  /* Constructs the state in storage. Statuses: MOLT_THREW; MOLT_REFUSED: it does not want to start, for the reason in the
   * text. */
  int (*init)(molt_context*, const molt_arguments*, void* state_storage, molt_text* error);
  /* NULL if the type has none. The state is destroyed by the caller afterwards. */
  int (*terminate)(molt_context*, void* state, const char* why, molt_text* error);
  /* NULL or: throws if the state breaks its own rules. */
  int (*self_check)(const void* state, molt_text* error);
  /* Connections only. Takes a prefix of the bytes received and not yet consumed; sets `consumed`. */
  int (*handle_data)(molt_context*, void* state, const char* data, size_t size, size_t* consumed, molt_text* error);
  /* NULL or: constructs in storage what may be shown of the state, itself a state. Statuses: MOLT_THREW. */
  int (*format_status)(const void* state, void* shown_storage, molt_text* error);
  /* NULL or: told the server's arguments when they have changed. Statuses: MOLT_THREW. */
  int (*config_change)(molt_context*, void* state, const molt_arguments* now, molt_text* error);
  /* NULL, or the state has evolving containers: converts their entries one by one to the present version, or with `down`
   * back to what they were adopted from, for about budget_ns, at least one; sets `left`, how many are still to be converted
   * that way. Statuses: MOLT_THREW; then one entry could not be converted, and it and all others are whole. */
  int (*evolve)(void* state, int down, int64_t budget_ns, uint64_t* left, molt_text* error);
  /* Reply schema to reply schema: up for a newer caller that an older version answers, DOWN for an older caller that a newer
   * one answers. */
  uint32_t reply_edge_count;
  uint32_t reserved;
  const molt_edge* reply_edges;
} molt_server_type;

/* ---- The table ---- */

typedef struct molt_plugin_table {
  uint32_t abi_version;
  uint32_t size;          /* of this struct */
  const char* name;       /* [a-z][a-z0-9_-]* , at most 64 bytes */
  const char* version;    /* dotted numbers, at most 64 bytes */
  const char* toolchain;  /* what the fingerprints include, e.g. "x86_64 itanium libstdc++ cxx11" */
  uint32_t server_type_count;
  uint32_t reserved;
  const molt_server_type* server_types;
  /* NULL, or a sentence that says why the plugin found itself unfit (e.g. a member whose offset the note states wrongly). */
  const char* defect;
  /* NULL, or how it was compiled as far as that changes no layout: key=value words, docs/reference/note-format.md. */
  const char* build;
} molt_plugin_table;

typedef const molt_plugin_table* (*molt_plugin_function)(void);

#ifdef __cplusplus
}
#endif

#endif

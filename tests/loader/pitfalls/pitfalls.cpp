// One way at a time in which a library may hurt when it is replaced in a running process: -DPITFALL_<name>. No header but
// where it is the pitfall, so that each compiles in no time; linked with the hand-made counter.
#define SHOWN __attribute__((visibility("default")))
#define KEPT __attribute__((used))

#if defined(PITFALL_boost_singleton)
#include <boost/serialization/singleton.hpp>
#else
extern "C" {
int pthread_create(unsigned long*, const void*, void* (*)(void*), void*);
int pthread_key_create(unsigned*, void (*)(void*));
int pthread_key_delete(unsigned);
int __register_atfork(void (*)(), void (*)(), void (*)(), void*);
int atexit(void (*)());
int on_exit(void (*)(int, void*), void*);
void* dlopen(const char*, int);
void* dlmopen(long, const char*, int);
int fork();
int execv(const char*, char* const*);
int posix_spawn(int*, const char*, const void*, const void*, char* const*, char* const*);
int system(const char*);
void exit(int);
void (*signal(int, void (*)(int)))(int);
int timer_create(int, void*, void**);
void* malloc(unsigned long);
int nobody_defines_this();
int newer_function();
int neighbour();
extern void* __dso_handle;
}
#endif

#if defined(PITFALL_unique)
template <class T>
struct SHOWN shared_static {
  static int value;
};
template <class T>
int shared_static<T>::value = 1;
KEPT int touch() { return ++shared_static<int>::value; }
#elif defined(PITFALL_thread)
KEPT int start(unsigned long* id) { return pthread_create(id, nullptr, nullptr, nullptr); }
#elif defined(PITFALL_thread_local_destructor)
struct noisy {
  ~noisy() { value = 1; }
  volatile int value = 0;
};
thread_local noisy own;
KEPT int touch() { return own.value; }
#elif defined(PITFALL_thread_local)
thread_local int own = 1;
KEPT int* touch() { return &own; }
#elif defined(PITFALL_thread_key)
KEPT int key(unsigned* made) { return pthread_key_create(made, nullptr); }
#elif defined(PITFALL_thread_key_deleted)
KEPT int key(unsigned* made) { return pthread_key_create(made, nullptr) + pthread_key_delete(*made); }
#elif defined(PITFALL_atfork)
KEPT int at() { return __register_atfork(nullptr, nullptr, nullptr, __dso_handle); }
#elif defined(PITFALL_atexit)
KEPT int at() { return atexit(nullptr); }
#elif defined(PITFALL_on_exit)
KEPT int at() { return on_exit(nullptr, nullptr); }
#elif defined(PITFALL_static_destructor)
struct noisy {
  ~noisy() { value = 1; }
  volatile int value = 0;
};
static noisy own;
KEPT int touch() { return own.value; }
#elif defined(PITFALL_dlopen)
KEPT void* open() { return dlopen("libm.so.6", 1); }
#elif defined(PITFALL_dlmopen)
KEPT void* open() { return dlmopen(-1, "libm.so.6", 1); }
#elif defined(PITFALL_fork)
KEPT int start() { return fork(); }
#elif defined(PITFALL_fork_by_another_name)
extern "C" int _Fork();
extern "C" int __vfork();
KEPT int start() { return _Fork() + __vfork(); }
#elif defined(PITFALL_exec)
KEPT int start() { return execv("/bin/true", nullptr); }
#elif defined(PITFALL_spawn)
KEPT int start(int* id) { return posix_spawn(id, "/bin/true", nullptr, nullptr, nullptr, nullptr) + system("true"); }
#elif defined(PITFALL_exit)
KEPT void end() { exit(0); }
#elif defined(PITFALL_signal)
KEPT void* handle() { return reinterpret_cast<void*>(signal(10, nullptr)); }
#elif defined(PITFALL_signal_by_another_name)
extern "C" void* bsd_signal(int, void*);
KEPT void* handle() { return bsd_signal(10, nullptr); }
#elif defined(PITFALL_timer)
KEPT int timer(void** made) { return timer_create(0, nullptr, made); }
#elif defined(PITFALL_ifunc)
static int plain() { return 1; }
extern "C" int (*resolve())() { return plain; }
extern "C" int chosen() __attribute__((ifunc("resolve")));
KEPT int use() { return chosen(); }
#elif defined(PITFALL_allocator)
extern "C" void* malloc(unsigned long) { return nullptr; }
#elif defined(PITFALL_vtable)
struct SHOWN shape {
  virtual ~shape() = default;
  virtual int area() { return 0; }
};
KEPT shape* make() { return new shape; }
#elif defined(PITFALL_export)
extern "C" SHOWN int another_function() { return 1; }
#elif defined(PITFALL_text_relocation)
extern "C" const int hidden_constant;
const int hidden_constant = 1;
asm(".pushsection .text\n .balign 8\n .quad hidden_constant\n .popsection");
#elif defined(PITFALL_writable_code)
asm(".pushsection .both,\"awx\"\n .quad 0\n .popsection");
#elif defined(PITFALL_undefined)
KEPT int use() { return nobody_defines_this(); }
#elif defined(PITFALL_newer)
KEPT int use() { return newer_function(); }
#elif defined(PITFALL_uses_neighbour)
KEPT int use() { return neighbour(); }
#elif defined(PITFALL_static_data)
static long calls;
KEPT long count() { return ++calls; }
#elif defined(PITFALL_build_path)
KEPT const char* where() { return "/home/someone/project/counter.cpp"; }
#elif defined(PITFALL_boost_singleton)
struct registered {};
KEPT const void* touch() { return &boost::serialization::singleton<registered>::get_const_instance(); }
#elif defined(LIBRARY_neighbour)
template <class T>
struct SHOWN shared_static {
  static int value;
};
template <class T>
int shared_static<T>::value = 1;
extern "C" SHOWN int neighbour() { return ++shared_static<int>::value; }
#elif defined(LIBRARY_newer)
extern "C" SHOWN int newer_function() { return 1; }
#elif defined(LIBRARY_older)
extern "C" SHOWN int older_function() { return 1; }
#elif defined(LIBRARY_allocator)
extern "C" SHOWN int neighbour() { return 1; }
#endif

#include "server/fence.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>

namespace molt::servers::fence {

namespace {

[[maybe_unused]] long membarrier(int command) noexcept { return syscall(SYS_membarrier, command, 0U, 0); }

}  // namespace

void prepare() noexcept {
  static std::once_flag once;
  std::call_once(once, [] {
#if !defined(MOLT_THREAD_SANITIZER)
    detail::membarrier_missing = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0;
#endif
  });
}

void heavy() noexcept {
#if !defined(MOLT_THREAD_SANITIZER)
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (detail::membarrier_missing) return;
  if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return;
  // Registration is a property of the address space: a process forked from this one may have to renew it.
  membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
#endif
}

}  // namespace molt::servers::fence

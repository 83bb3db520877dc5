// Programs may be started with stdin, stdout or stderr closed.
#pragma once

namespace molt {

/// For the beginning of main(): descriptors 0, 1 and 2 are open afterwards. One that was closed would otherwise be the
/// next file or socket, which would then get what is printed. Reading from such a stdin and writing to such a stdout
/// fails, as it did before; what is written to such a stderr is lost.
void open_standard_files() noexcept;

}  // namespace molt

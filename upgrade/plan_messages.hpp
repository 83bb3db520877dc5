// The part of a plan that is about what is under way: messages, and the replies that callers wait for.
//
// Internal to upgrade/.
#pragma once

#include "plugin/description.hpp"
#include "state_migration/migration_graph.hpp"
#include "state_migration/migration_path.hpp"
#include "upgrade/plan.hpp"
#include "upgrade/plan_parts.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace molt::upgrade::detail {

/// One server type in one direction: its messages of the release that is left, seen from the one that is entered.
///
/// A message goes the way of the upgrade, its reply comes back: so going up needs message_change and reply_change_down.
class message_planner {
 public:
  /// `backwards`: this is the way back of the plan.
  message_planner(const located_type& from, const located_type& to, direction going, bool backwards,
                  const plan_options& options, plan& whole)
      : from_{from}, to_{to}, going_{going}, backwards_{backwards}, options_{options}, whole_{whole} {}

  /// Adds to the plan what speaks against it.
  [[nodiscard]] message_plan run(const message_description&);
  /// The calls that a state of the release that is left owes an answer to: the state that is entered must have tokens
  /// for them, by which their callers get what they expect.
  void check_deferred_replies(const type_plan&);

 private:
  struct token;  // a reply_to in a state

  [[nodiscard]] result<migration::migration_path> find_path(const migration::subject&, const schema_description& from,
                                                            const schema_description& to, direction) const;
  bool plan_payload(const message_description& sent, const message_description& received, const std::string& path,
                    message_plan&);
  bool plan_reply(const message_description& sent, const message_description& received, const std::string& path,
                  message_plan&);
  void report_losses(const std::string& path, const migration::migration_path&);
  [[nodiscard]] std::string what_to_write(std::string_view what, std::string_view function, direction,
                                          const plugin_description& before_of, const schema_description& before,
                                          const plugin_description& after_of, const schema_description& after) const;
  [[nodiscard]] bool is_answered(const schema_node& expected, const std::vector<token>& with) const;
  [[nodiscard]] const message_description* find_received(std::string_view name) const;

  const located_type& from_;
  const located_type& to_;
  direction going_;
  bool backwards_;
  const plan_options& options_;
  plan& whole_;
};

}  // namespace molt::upgrade::detail

# The layers and what each may include. Two readers: the build links by this table (molt_add_layer), and the `layers` test
# (cmake -P cmake/check_layers.cmake) reads every #include against it. Lower layers first.
set(molt_layers base plugin loader server state_migration upgrade releases node tools)

set(molt_layer_base            "")
set(molt_layer_plugin          base)
set(molt_layer_loader          base plugin)
set(molt_layer_server          base plugin)
set(molt_layer_state_migration base plugin)
set(molt_layer_upgrade         base plugin loader server state_migration)
set(molt_layer_releases        base plugin loader upgrade)
set(molt_layer_node            base plugin loader server state_migration upgrade releases)
set(molt_layer_tools           base plugin loader server state_migration upgrade releases node)

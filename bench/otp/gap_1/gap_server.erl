%% Version 1 of the server that upgrade_gap.erl upgrades: a table of entries, or one item.
-module(gap_server).
-vsn("1").
-behaviour(gen_server).
-export([start/1, init/1, handle_call/3, handle_cast/2, code_change/3]).

start(What) -> gen_server:start(?MODULE, What, []).

init({table, Count}) -> {ok, {table, maps:from_list([{Id, {0, Id}} || Id <- lists:seq(0, Count - 1)])}};
init(item) -> {ok, {item, 0}}.

handle_call({touch, Id}, _From, {table, Live}) ->
    {Hits, Seen} = maps:get(Id, Live),
    {reply, Hits + 1, {table, Live#{Id := {Hits + 1, Seen}}}};
handle_call({touch, _Id}, _From, {item, Hits}) -> {reply, Hits + 1, {item, Hits + 1}}.

handle_cast(_Message, State) -> {noreply, State}.

code_change(_Old, State, _Extra) -> {ok, State}.
